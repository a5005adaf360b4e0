//! Reading an RDB file from bytes that come in chunks of any size.

use crate::decode::{Decoded, Decoder, Input, Stop, refuse};
use crate::format::{Checksum, op, readable};
use holdfast_engine::Value;
use holdfast_engine::types::TypeLimits;

/// Longest string that is believed unless [`RdbReader::with_limits`] says otherwise.
pub const STRING_BYTES_MAX: usize = 512 << 20;

/// Most slot ranges of one import record.
const RANGES_MAX: u64 = 16384;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("RDB: {reason} at offset {offset}")]
pub struct RdbError {
    /// Offset in the file of the piece that could not be read.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl RdbError {
    /// What Valkey's log says of it, and where it is.
    pub fn log_lines(&self) -> Vec<String> {
        vec![self.reason.clone(), self.to_string()]
    }
}

/// What a file holds, in its order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The header: the version, and whether the magic was `VALKEY`.
    Version {
        /// The format's version.
        version: u32,
        /// `VALKEY` instead of `REDIS`.
        valkey: bool,
    },
    /// An auxiliary field.
    Aux {
        /// Its name.
        name: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// The database of the keys that follow.
    SelectDb(u32),
    /// How many keys and expiries the database has: a hint, not to be trusted.
    ResizeDb {
        /// Keys.
        keys: u64,
        /// Keys with an expiry.
        expires: u64,
    },
    /// How many keys and expiries a slot has: a hint, not to be trusted.
    SlotInfo {
        /// The slot as the file has it.
        slot: u64,
        /// Keys.
        keys: u64,
        /// Keys with an expiry.
        expires: u64,
    },
    /// A slot import that was under way at the writer.
    SlotImport {
        /// The job's name.
        job: Vec<u8>,
        /// Its slots, first and last.
        ranges: Vec<(u16, u16)>,
    },
    /// The code of a function library.
    Function(Vec<u8>),
    /// A key.
    Key {
        /// Its database.
        db: u32,
        /// Its name.
        key: Vec<u8>,
        /// When it expires: unix time in milliseconds.
        expire_at_ms: Option<u64>,
        /// Its value.
        value: Value,
    },
    /// The file is whole and its checksum right (or absent, before version 5 or when the writer left it out).
    End,
}

enum State {
    Header,
    /// Between records, with the attributes of the key to come.
    Record,
    /// In a key's value.
    Value {
        key: Vec<u8>,
        decoder: Box<Decoder>,
    },
    Footer,
    Done,
    Failed,
}

/// See the module's documentation: [`RdbReader::feed`] bytes, then call [`RdbReader::poll`] until it says `None`.
pub struct RdbReader {
    buf: Vec<u8>,
    /// Bytes of `buf` that are read.
    at: usize,
    /// Offset in the file of the first byte of `buf`.
    offset: u64,
    /// Bytes of `buf` that must be there before trying again is worth it.
    need: usize,
    sum: Checksum,
    version: u32,
    state: State,
    db: u32,
    expire_at_ms: Option<u64>,
    limits: TypeLimits,
    string_max: usize,
}

impl Default for RdbReader {
    fn default() -> Self {
        Self::new(TypeLimits::default())
    }
}

impl RdbReader {
    /// A reader that gives values the forms that `limits` ask for.
    pub fn new(limits: TypeLimits) -> Self {
        Self::with_limits(limits, STRING_BYTES_MAX)
    }

    /// A reader that believes strings of up to `string_max` bytes.
    pub fn with_limits(limits: TypeLimits, string_max: usize) -> Self {
        RdbReader {
            buf: Vec::new(),
            at: 0,
            offset: 0,
            need: 0,
            sum: Checksum::new(),
            version: 0,
            state: State::Header,
            db: 0,
            expire_at_ms: None,
            limits,
            string_max,
        }
    }

    /// Takes the next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buf.drain(..self.at);
            self.offset += self.at as u64;
            self.need = self.need.saturating_sub(self.at);
            self.at = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// Offset in the file up to which all is read.
    pub fn offset(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// Whether [`Event::End`] was reached.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes behind the end of the file that were fed as well (an AOF after its preamble, a command stream).
    pub fn into_rest(mut self) -> Vec<u8> {
        self.buf.split_off(self.at)
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// When the file is not whole.
    pub fn end_of_input(&self) -> Result<(), RdbError> {
        match self.state {
            State::Done => Ok(()),
            _ => Err(self.error("unexpected end of file".into())),
        }
    }

    fn error(&self, reason: String) -> RdbError {
        RdbError {
            offset: self.offset(),
            reason,
        }
    }

    /// The next event, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the file is malformed, of a version or with a type that we do not read, or its checksum is wrong.
    /// The reader stays failed.
    pub fn poll(&mut self) -> Result<Option<Event>, RdbError> {
        loop {
            match self.state {
                State::Done => return Ok(None),
                State::Failed => return Err(self.error("the file is malformed".into())),
                _ if self.buf.len() < self.need => return Ok(None),
                _ => {}
            }
            let mut input = Input {
                bytes: &self.buf,
                at: self.at,
                string_max: self.string_max,
            };
            let mut draft = Draft {
                version: &mut self.version,
                db: &mut self.db,
                expire_at_ms: &mut self.expire_at_ms,
                limits: &self.limits,
                sum: &self.sum,
            };
            let step = draft.step(&mut self.state, &mut input);
            let at = input.at;
            match step {
                Ok(event) => {
                    // The checksum covers all that comes before it.
                    if !matches!(self.state, State::Done) {
                        self.sum.update(&self.buf[self.at..at]);
                    }
                    self.at = at;
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                Err(Stop::More(n)) => {
                    self.need = n;
                    return Ok(None);
                }
                Err(Stop::Bad(reason)) => {
                    self.state = State::Failed;
                    return Err(self.error(reason));
                }
            }
        }
    }
}

/// The parts of a reader that a step changes.
struct Draft<'a> {
    version: &'a mut u32,
    db: &'a mut u32,
    expire_at_ms: &'a mut Option<u64>,
    limits: &'a TypeLimits,
    sum: &'a Checksum,
}

impl Draft<'_> {
    /// Reads one piece; changes nothing unless the piece is whole.
    fn step(&mut self, state: &mut State, input: &mut Input<'_>) -> Result<Option<Event>, Stop> {
        match state {
            State::Header => {
                let magic = input.take(9)?;
                let (valkey, digits) = match magic {
                    [b'R', b'E', b'D', b'I', b'S', rest @ ..] => (false, rest),
                    [b'V', b'A', b'L', b'K', b'E', b'Y', rest @ ..] => (true, rest),
                    _ => return Err("wrong signature trying to load DB from file".into()),
                };
                let version = std::str::from_utf8(digits)
                    .ok()
                    .filter(|d| d.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|d| d.parse().ok())
                    .unwrap_or(0);
                if !readable(version) || valkey != (version >= 80) {
                    return Err(Stop::Bad(format!(
                        "can't handle RDB format version {version}"
                    )));
                }
                *self.version = version;
                *state = State::Record;
                Ok(Some(Event::Version { version, valkey }))
            }
            State::Record => self.record(state, input),
            State::Value { key, decoder } => {
                let Some(decoded) = decoder.step(input, self.limits)? else {
                    return Ok(None);
                };
                let key = std::mem::take(key);
                let expire_at_ms = self.expire_at_ms.take();
                *state = State::Record;
                Ok(match decoded {
                    Decoded::Empty => None,
                    Decoded::Value(value) => Some(Event::Key {
                        db: *self.db,
                        key,
                        expire_at_ms,
                        value,
                    }),
                })
            }
            State::Footer => {
                if *self.version >= 5 {
                    let said = input.u64_le()?;
                    let is = self.sum.value();
                    if said != 0 && said != is {
                        return Err(Stop::Bad(format!(
                            "wrong RDB checksum: expected {said:016x}, got {is:016x}"
                        )));
                    }
                }
                *state = State::Done;
                Ok(Some(Event::End))
            }
            State::Done | State::Failed => Ok(None),
        }
    }

    fn record(&mut self, state: &mut State, input: &mut Input<'_>) -> Result<Option<Event>, Stop> {
        let event = match input.byte()? {
            op::AUX => Event::Aux {
                name: input.string()?,
                value: input.string()?,
            },
            op::SELECTDB => {
                let db = input.length()?;
                *self.db = u32::try_from(db)
                    .map_err(|_| Stop::Bad(format!("database number {db} is too large")))?;
                Event::SelectDb(*self.db)
            }
            op::RESIZEDB => Event::ResizeDb {
                keys: input.length()?,
                expires: input.length()?,
            },
            op::SLOT_INFO => Event::SlotInfo {
                slot: input.length()?,
                keys: input.length()?,
                expires: input.length()?,
            },
            op::SLOT_IMPORT => slot_import(input)?,
            op::FUNCTION2 => Event::Function(input.string()?),
            op::FUNCTION_PRE_GA => {
                return Err("functions of a pre-release are not supported".into());
            }
            op::MODULE_AUX => return Err("module data is not supported".into()),
            // How hot the key is: read and dropped.
            op::IDLE => {
                input.length()?;
                return Ok(None);
            }
            op::FREQ => {
                input.byte()?;
                return Ok(None);
            }
            op::EXPIRETIME => {
                *self.expire_at_ms = Some(u64::from(input.u32_le()?) * 1000);
                return Ok(None);
            }
            op::EXPIRETIME_MS => {
                // A time before 1970 is long past.
                *self.expire_at_ms = Some(u64::try_from(input.u64_le()? as i64).unwrap_or(0));
                return Ok(None);
            }
            op::EOF => {
                *state = State::Footer;
                return Ok(None);
            }
            kind => {
                if let Some(reason) = refuse(kind) {
                    return Err(Stop::Bad(format!("{reason} (type {kind})")));
                }
                let key = input.string()?;
                *state = State::Value {
                    key,
                    decoder: Box::new(Decoder::Start(kind)),
                };
                return Ok(None);
            }
        };
        Ok(Some(event))
    }
}

fn slot_import(input: &mut Input<'_>) -> Result<Event, Stop> {
    let job = input.string()?;
    let n = input.length()?;
    if job.len() != 40 || n > RANGES_MAX {
        return Err("malformed slot import".into());
    }
    let mut ranges = Vec::new();
    for _ in 0..n {
        match (
            u16::try_from(input.length()?),
            u16::try_from(input.length()?),
        ) {
            (Ok(first), Ok(last)) if first <= last && last < 16384 => ranges.push((first, last)),
            _ => return Err("malformed slot range".into()),
        }
    }
    Ok(Event::SlotImport { job, ranges })
}
