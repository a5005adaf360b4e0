//! Reading an RDB file from bytes that come in chunks of any size.

use crate::decode::{Decoded, Decoder, Input, Stop, Text, refuse};
use crate::format::{
    Checksum, FOREIGN_TYPES, FOREIGN_VERSIONS, NEWEST_VERSION, kind, op, readable,
};
use holdfast_engine::types::TypeLimits;
use holdfast_engine::{AccessNote, LoadBatch, LoadHead, Value};
use holdfast_resp::format_i64;

/// Longest string that is believed unless [`RdbReader::with_limits`] says otherwise.
pub const STRING_BYTES_MAX: usize = 512 << 20;

/// Most slot ranges of one import record.
const RANGES_MAX: u64 = 16384;

/// How a file is read.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// The forms that values take.
    pub limits: TypeLimits,
    /// Longest string that is believed.
    pub string_bytes_max: usize,
    /// Versions that we do not know are tried, as long as nothing unknown is in them.
    pub relaxed: bool,
    /// The checksum is compared.
    pub checksum: bool,
    /// What modules have written is passed over instead of refused.
    pub skip_modules: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            limits: TypeLimits::default(),
            string_bytes_max: STRING_BYTES_MAX,
            relaxed: false,
            checksum: true,
            skip_modules: false,
        }
    }
}

/// What kind of thing is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not begin as an RDB file does.
    Signature,
    /// It is of a version that is not read.
    Version(u32),
    /// A type or opcode of another implementation's format, or a later one's, in a file of this version.
    UnknownType(u8, u32),
    /// The checksum is another.
    Checksum,
    /// It ends early.
    Short,
    /// Anything else.
    Malformed,
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("RDB: {reason} at offset {offset}")]
pub struct RdbError {
    /// Offset in the file of the piece that could not be read.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
    /// The kind of it.
    pub fault: Fault,
}

impl RdbError {
    /// What Valkey's log says of it, and where it is.
    pub fn log_lines(&self) -> Vec<String> {
        let at = self.offset;
        match self.fault {
            Fault::Checksum => vec![self.reason.clone(), format!("RDB CRC error at offset {at}")],
            Fault::Signature | Fault::Version(_) | Fault::UnknownType(..) => {
                vec![format!("{} (offset {at})", self.reason)]
            }
            Fault::Short | Fault::Malformed => vec![
                "Short read or OOM loading DB. Unrecoverable error, aborting now.".into(),
                format!(
                    "Internal error in RDB reading offset {at} -> {}",
                    self.reason
                ),
            ],
        }
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
        /// Seconds since its last access, if the file says so.
        idle_s: Option<u64>,
        /// How often it is used, logarithmically, if the file says so.
        frequency: Option<u8>,
        /// Its value.
        value: Value,
    },
    /// A key with a collection that has no elements; it is to be left out.
    EmptyKey(Vec<u8>),
    /// Only of [`RdbReader::poll_batch`]: there is enough in the batch.
    Batch,
    /// Something that a module has written, passed over: the module's name.
    Module(String),
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
        kind: u8,
        decoder: Box<Decoder>,
    },
    /// In what a module of this name has written.
    Module(String),
    Footer,
    Done,
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
    /// Bytes of `buf` that are in the sum: many at a time are summed up faster than piece by piece.
    summed: usize,
    version: u32,
    state: State,
    db: u32,
    attributes: Attributes,
    options: ReadOptions,
    failed: bool,
    stored_sum: Option<u64>,
    /// What is being read, for whoever reports an error.
    doing: &'static str,
    /// A key and a string, unpacked.
    scratch: [Vec<u8>; 2],
}

/// How much a batch is to hold.
#[derive(Debug, Clone, Copy)]
pub struct BatchSize {
    /// Keys.
    pub keys: usize,
    /// Bytes of the file that they come from.
    pub bytes: u64,
}

/// What is said of a key before it comes.
#[derive(Debug, Clone, Copy, Default)]
struct Attributes {
    expire_at_ms: Option<u64>,
    idle_s: Option<u64>,
    frequency: Option<u8>,
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
        Self::with_options(ReadOptions {
            limits,
            string_bytes_max: string_max,
            ..ReadOptions::default()
        })
    }

    /// A reader.
    pub fn with_options(options: ReadOptions) -> Self {
        RdbReader {
            buf: Vec::new(),
            at: 0,
            offset: 0,
            need: 0,
            sum: Checksum::new(),
            summed: 0,
            version: 0,
            state: State::Header,
            db: 0,
            attributes: Attributes::default(),
            options,
            failed: false,
            stored_sum: None,
            doing: "start",
            scratch: Default::default(),
        }
    }

    /// Takes the next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.sum_up();
            self.summed = 0;
            self.buf.drain(..self.at);
            self.offset += self.at as u64;
            self.need = self.need.saturating_sub(self.at);
            self.at = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// Sums up what has been read. The checksum covers all that comes before it.
    fn sum_up(&mut self) {
        if self.options.checksum && !matches!(self.state, State::Done) {
            self.sum.update(&self.buf[self.summed..self.at]);
        }
        self.summed = self.at;
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
            _ => Err(self.error("unexpected end of file".into(), Fault::Short)),
        }
    }

    /// The version, once it is known.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What was being read last, in Valkey's words: `read-key`, `read-object-value` and the like.
    pub fn doing(&self) -> &'static str {
        self.doing
    }

    /// The checksum that the file ends with, once that is read; zero says that there is none. `None` in versions without.
    pub fn stored_checksum(&self) -> Option<u64> {
        self.stored_sum
    }

    /// The key whose value is being read, and the value's type.
    pub fn key(&self) -> Option<(&[u8], u8)> {
        match &self.state {
            State::Value { key, kind, .. } => Some((key, *kind)),
            _ => None,
        }
    }

    fn error(&self, reason: String, fault: Fault) -> RdbError {
        RdbError {
            offset: self.offset(),
            reason,
            fault,
        }
    }

    /// The next event, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the file is malformed, of a version or with a type that we do not read, or its checksum is wrong.
    /// The reader stays failed.
    pub fn poll(&mut self) -> Result<Option<Event>, RdbError> {
        loop {
            if matches!(self.state, State::Footer) {
                self.sum_up();
            }
            match self.state {
                State::Done => return Ok(None),
                _ if self.failed => {
                    return Err(self.error("the file is malformed".into(), Fault::Malformed));
                }
                _ if self.buf.len() < self.need => return Ok(None),
                _ => {}
            }
            let mut input = Input {
                bytes: &self.buf,
                at: self.at,
                string_max: self.options.string_bytes_max,
            };
            let mut fault = Fault::Malformed;
            let mut draft = Draft {
                version: &mut self.version,
                db: &mut self.db,
                attributes: &mut self.attributes,
                options: &self.options,
                sum: &self.sum,
                doing: &mut self.doing,
                fault: &mut fault,
                stored_sum: &mut self.stored_sum,
            };
            let step = draft.step(&mut self.state, &mut input);
            let at = input.at;
            match step {
                Ok(event) => {
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
                    self.failed = true;
                    return Err(self.error(reason, fault));
                }
            }
        }
    }
}

/// Batches.
impl RdbReader {
    /// As [`poll`](Self::poll), but keys go into a batch, until there is enough in it: then [`Event::Batch`] is returned. The batch
    /// is to be taken care of before any other event, too.
    ///
    /// # Errors
    /// As of [`poll`](Self::poll).
    pub fn poll_batch(
        &mut self,
        batch: &mut LoadBatch,
        size: BatchSize,
    ) -> Result<Option<Event>, RdbError> {
        let from = self.offset();
        loop {
            if matches!(self.state, State::Record) && !self.failed && self.buf.len() >= self.need {
                self.read_strings(batch, size, from);
            }
            if batch.len() >= size.keys || self.offset() - from >= size.bytes {
                return Ok(Some(Event::Batch));
            }
            match self.poll()? {
                Some(Event::Key {
                    db,
                    key,
                    expire_at_ms,
                    idle_s,
                    frequency,
                    value,
                }) => batch.push(
                    &LoadHead {
                        db,
                        key: &key,
                        expire_at_ms,
                        access: access_note(idle_s, frequency),
                    },
                    value,
                ),
                other => return Ok(other),
            }
        }
    }

    /// Reads keys with strings, as long as such come and are all there. Whatever else comes is left where it is.
    fn read_strings(&mut self, batch: &mut LoadBatch, size: BatchSize, from: u64) {
        let mut input = Input {
            bytes: &self.buf,
            at: self.at,
            string_max: self.options.string_bytes_max,
        };
        let end =
            usize::try_from((from + size.bytes).saturating_sub(self.offset)).unwrap_or(usize::MAX);
        while batch.len() < size.keys
            && input.at < end
            && read_string(
                &mut input,
                self.db,
                self.attributes,
                &mut self.scratch,
                batch,
            )
            .is_ok()
        {
            self.at = input.at;
            self.attributes = Attributes::default();
        }
        if self
            .scratch
            .iter()
            .any(|s| s.capacity() > SCRATCH_BYTES_MAX)
        {
            self.scratch = Default::default();
        }
    }
}

/// What is unpacked into stays for the next string, unless it is larger.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

fn access_note(idle_s: Option<u64>, frequency: Option<u8>) -> Option<AccessNote> {
    let frequency = frequency.map(AccessNote::Frequency);
    frequency.or(idle_s.map(AccessNote::IdleSeconds))
}

/// Reads a key with a string, with what is said of it in front. What is wrong, or no such thing, is for others to say.
fn read_string(
    input: &mut Input<'_>,
    db: u32,
    mut attributes: Attributes,
    [key_scratch, scratch]: &mut [Vec<u8>; 2],
    batch: &mut LoadBatch,
) -> Result<(), Stop> {
    loop {
        match input.byte()? {
            kind::STRING => break,
            op::EXPIRETIME_MS => {
                attributes.expire_at_ms = Some(milliseconds(input.u64_le()?));
            }
            op::IDLE => attributes.idle_s = Some(input.length()?),
            op::FREQ => attributes.frequency = Some(input.byte()?),
            _ => return Err("not a string".into()),
        }
    }
    let number;
    let key: &[u8] = match input.text(key_scratch)? {
        Text::Bytes(bytes) => bytes,
        Text::Int(n) => {
            number = format_i64(n);
            number.as_bytes()
        }
        Text::Unpacked => key_scratch,
    };
    let head = LoadHead {
        db,
        key,
        expire_at_ms: attributes.expire_at_ms,
        access: access_note(attributes.idle_s, attributes.frequency),
    };
    match input.text(scratch)? {
        Text::Bytes(bytes) => batch.push_str(&head, bytes),
        Text::Int(value) => batch.push_int(&head, value),
        Text::Unpacked => batch.push_str(&head, scratch),
    }
    Ok(())
}

/// A time before 1970 is long past.
fn milliseconds(at: u64) -> u64 {
    u64::try_from(at as i64).unwrap_or(0)
}

/// The parts of a reader that a step changes.
struct Draft<'a> {
    version: &'a mut u32,
    db: &'a mut u32,
    attributes: &'a mut Attributes,
    options: &'a ReadOptions,
    sum: &'a Checksum,
    doing: &'a mut &'static str,
    fault: &'a mut Fault,
    stored_sum: &'a mut Option<u64>,
}

impl Draft<'_> {
    /// Reads one piece; changes nothing unless the piece is whole.
    fn step(&mut self, state: &mut State, input: &mut Input<'_>) -> Result<Option<Event>, Stop> {
        match state {
            State::Header => {
                let magic = input.take(9)?;
                let (valkey, digits) = match magic {
                    [b'R', b'E', b'D', b'I', b'S', b'0', rest @ ..] => (false, rest),
                    [b'V', b'A', b'L', b'K', b'E', b'Y', rest @ ..] => (true, rest),
                    _ => {
                        *self.fault = Fault::Signature;
                        let magic = String::from_utf8_lossy(magic);
                        return Err(Stop::Bad(format!(
                            "Wrong signature trying to load DB from file: {magic}"
                        )));
                    }
                };
                let version = std::str::from_utf8(digits)
                    .ok()
                    .filter(|d| d.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|d| d.parse().ok())
                    .unwrap_or(0);
                let newer = version > *FOREIGN_VERSIONS.end();
                if !readable(version, self.options.relaxed) || valkey != newer {
                    *self.fault = Fault::Version(version);
                    return Err(Stop::Bad(format!(
                        "Can't handle RDB format version {version}"
                    )));
                }
                *self.version = version;
                *state = State::Record;
                Ok(Some(Event::Version { version, valkey }))
            }
            State::Record => self.record(state, input),
            State::Value { key, decoder, .. } => {
                *self.doing = "read-object-value";
                let Some(decoded) = decoder.step(input, &self.options.limits)? else {
                    return Ok(None);
                };
                let key = std::mem::take(key);
                let attributes = std::mem::take(self.attributes);
                *state = State::Record;
                Ok(match decoded {
                    Decoded::Empty => Some(Event::EmptyKey(key)),
                    Decoded::Value(value) => Some(Event::Key {
                        db: *self.db,
                        key,
                        expire_at_ms: attributes.expire_at_ms,
                        idle_s: attributes.idle_s,
                        frequency: attributes.frequency,
                        value,
                    }),
                })
            }
            State::Module(skip) => {
                // Opcodes and what they announce, until there are no more.
                match input.length()? {
                    module_op::EOF => {
                        let name = std::mem::take(skip);
                        *state = State::Record;
                        return Ok(Some(Event::Module(name)));
                    }
                    module_op::SINT | module_op::UINT => {
                        input.length()?;
                    }
                    module_op::FLOAT => {
                        input.take(4)?;
                    }
                    module_op::DOUBLE => {
                        input.take(8)?;
                    }
                    module_op::STRING => {
                        input.string()?;
                    }
                    other => {
                        return Err(Stop::Bad(format!("unknown module opcode {other}")));
                    }
                }
                Ok(None)
            }
            State::Footer => {
                *self.doing = "check-sum";
                if *self.version >= 5 {
                    let said = input.u64_le()?;
                    *self.stored_sum = Some(said);
                    let is = self.sum.value();
                    if self.options.checksum && said != 0 && said != is {
                        *self.fault = Fault::Checksum;
                        return Err(Stop::Bad(format!(
                            "Wrong RDB checksum expected: ({said:x}) but got ({is:x}). Aborting now."
                        )));
                    }
                }
                *state = State::Done;
                Ok(Some(Event::End))
            }
            State::Done => Ok(None),
        }
    }

    fn record(&mut self, state: &mut State, input: &mut Input<'_>) -> Result<Option<Event>, Stop> {
        *self.doing = "read-type";
        let record = input.byte()?;
        if *self.version < NEWEST_VERSION && FOREIGN_TYPES.contains(&record) {
            *self.fault = Fault::UnknownType(record, *self.version);
            return Err(Stop::Bad(format!(
                "Can't handle foreign type or opcode {record} in RDB with version {}",
                self.version
            )));
        }
        let event = match record {
            op::AUX => {
                *self.doing = "read-aux";
                Event::Aux {
                    name: input.string()?,
                    value: input.string()?,
                }
            }
            op::SELECTDB => {
                *self.doing = "read-len";
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
            op::FUNCTION2 => {
                *self.doing = "read-functions";
                Event::Function(input.string()?)
            }
            op::FUNCTION_PRE_GA => {
                return Err("Pre-release function format not supported.".into());
            }
            op::MODULE_AUX => {
                *self.doing = "read-module-aux";
                let name = module_name(input.length()?);
                if input.length()? != module_op::UINT {
                    return Err("bad when_opcode".into());
                }
                input.length()?;
                if !self.options.skip_modules {
                    return Err(Stop::Bad(format!(
                        "The RDB file contains AUX module data I can't load: no matching module '{name}'"
                    )));
                }
                *state = State::Module(name);
                return Ok(None);
            }
            op::IDLE => {
                self.attributes.idle_s = Some(input.length()?);
                return Ok(None);
            }
            op::FREQ => {
                self.attributes.frequency = Some(input.byte()?);
                return Ok(None);
            }
            op::EXPIRETIME => {
                *self.doing = "read-expire";
                self.attributes.expire_at_ms = Some(u64::from(input.u32_le()?) * 1000);
                return Ok(None);
            }
            op::EXPIRETIME_MS => {
                *self.doing = "read-expire";
                self.attributes.expire_at_ms = Some(milliseconds(input.u64_le()?));
                return Ok(None);
            }
            op::EOF => {
                *state = State::Footer;
                return Ok(None);
            }
            kind::MODULE_2 => {
                *self.doing = "read-key";
                input.string()?;
                *self.doing = "read-object-value";
                let name = module_name(input.length()?);
                if !self.options.skip_modules {
                    return Err(Stop::Bad(format!(
                        "The RDB file contains module data I can't load: no matching module type '{name}'"
                    )));
                }
                *self.attributes = Attributes::default();
                *state = State::Module(name);
                return Ok(None);
            }
            kind => {
                if !is_value(kind) {
                    *self.fault = Fault::UnknownType(kind, *self.version);
                    return Err(
                        "Unknown type or opcode when loading DB. Unrecoverable error, aborting now."
                            .into(),
                    );
                }
                if let Some(reason) = refuse(kind) {
                    return Err(Stop::Bad(format!("{reason} (type {kind})")));
                }
                *self.doing = "read-key";
                let key = input.string()?;
                *state = State::Value {
                    key,
                    kind,
                    decoder: Box::new(Decoder::Start(kind)),
                };
                return Ok(None);
            }
        };
        Ok(Some(event))
    }
}

/// Opcodes of what modules write.
mod module_op {
    pub const EOF: u64 = 0;
    pub const SINT: u64 = 1;
    pub const UINT: u64 = 2;
    pub const FLOAT: u64 = 3;
    pub const DOUBLE: u64 = 4;
    pub const STRING: u64 = 5;
}

/// Whether there are values of this type at all, whether or not we read them.
fn is_value(kind: u8) -> bool {
    matches!(kind, 0..=7 | 9..=22)
}

/// The nine letters of a module's type, six bits each above ten of a version.
fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9)
        .map(|n| LETTERS[(id >> (10 + 6 * (8 - n)) & 63) as usize] as char)
        .collect()
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
