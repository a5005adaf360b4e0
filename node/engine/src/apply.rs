//! Applying effects: what a follower does with a journal entry, and every node with its log after a restart.

use std::fmt;

use holdfast_resp::{Limits, Parse, Proto, RequestParser};

use crate::call::{Call, Mode, Outcome};
use crate::effects::Effects;
use crate::engine::Engine;
use crate::rng::Rng;

/// What applying a stream of effects must remember from one piece to the next.
#[derive(Debug)]
pub struct ApplyState {
    /// The database that the stream has selected.
    pub db: u16,
    /// Collects touched and ready keys, if its owner has it track them. Never encodes.
    pub fx: Effects,
    rng: Rng,
    parser: RequestParser,
    reply: Vec<u8>,
}

impl Default for ApplyState {
    fn default() -> Self {
        ApplyState {
            db: 0,
            fx: Effects::new(),
            // Effects leave nothing to chance; a command that draws all the same draws the same everywhere.
            rng: Rng::new(0),
            parser: RequestParser::new(),
            reply: Vec::new(),
        }
    }
}

/// Effects that cannot be applied: this copy is not what the primary's was, or the bytes are not effects. The copy must
/// not be used any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// Not a sequence of whole commands. At this offset of the piece.
    Malformed(usize),
    /// A command that is not a data command.
    UnknownCommand(String),
    /// A command that this copy refused, with its error.
    Refused {
        /// The command's name.
        command: String,
        /// The error.
        error: String,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::Malformed(at) => write!(f, "effects are malformed at byte {at}"),
            ApplyError::UnknownCommand(name) => {
                write!(f, "effect with the unknown command '{name}'")
            }
            ApplyError::Refused { command, error } => {
                write!(f, "effect '{command}' was refused: {error}")
            }
        }
    }
}

impl std::error::Error for ApplyError {}

impl Engine {
    /// Applies effects: whole commands, as [`Effects::bytes`] has gathered them. `SELECT` selects for good, `MULTI` and `EXEC` are
    /// passed over (the piece is applied as one anyway), `PING` and `REPLCONF` are ignored.
    ///
    /// # Errors
    /// See [`ApplyError`]. What came before the error has been applied.
    pub fn apply(
        &mut self,
        effects: &[u8],
        state: &mut ApplyState,
        now_ms: u64,
    ) -> Result<(), ApplyError> {
        let limits = Limits {
            bulk_bytes_max: usize::MAX >> 1,
            authenticated: true,
        };
        let mut at = 0;
        let mut argv: Vec<&[u8]> = Vec::new();
        // Taken out so that arguments can be borrowed while the rest of the state is in use.
        let mut parser = std::mem::take(&mut state.parser);
        while let Some(rest) = effects.get(at..).filter(|rest| !rest.is_empty()) {
            match parser.parse(rest, &limits) {
                Ok(Parse::Empty { consumed }) => at += consumed,
                Ok(Parse::Incomplete { .. }) | Err(_) => {
                    return Err(ApplyError::Malformed(at));
                }
                Ok(Parse::Command { consumed }) => {
                    argv.clear();
                    // Inline commands are no effects; their arguments would not lie in `effects`.
                    if rest.first() != Some(&b'*') {
                        return Err(ApplyError::Malformed(at));
                    }
                    argv.extend((0..parser.argc()).map(|i| parser.span(rest, i)));
                    self.apply_one(&argv, state, now_ms)?;
                    at += consumed;
                }
            }
        }
        state.parser = parser;
        Ok(())
    }

    /// Applies one effect.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply_one(
        &mut self,
        argv: &[&[u8]],
        state: &mut ApplyState,
        now_ms: u64,
    ) -> Result<(), ApplyError> {
        let name = argv.first().copied().unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Some(command) = Engine::command(name) else {
            if name.eq_ignore_ascii_case(b"SELECT") {
                let db = argv
                    .get(1)
                    .and_then(|n| holdfast_resp::parse_i64(n))
                    .and_then(|n| u16::try_from(n).ok());
                state.db = db
                    .filter(|db| usize::from(*db) < self.dbs.len())
                    .ok_or_else(|| ApplyError::Refused {
                        command: text(name),
                        error: "ERR DB index is out of range".into(),
                    })?;
                return Ok(());
            }
            let ignored = ["MULTI", "EXEC", "PING", "REPLCONF"];
            if ignored
                .iter()
                .any(|word| name.eq_ignore_ascii_case(word.as_bytes()))
            {
                return Ok(());
            }
            return Err(ApplyError::UnknownCommand(text(name)));
        };
        state.reply.clear();
        let outcome = self.execute(
            command,
            &mut Call {
                argv,
                db: state.db,
                slot: None,
                proto: Proto::Resp2,
                now_ms,
                mode: Mode::Apply,
                may_block: false,
                rng: &mut state.rng,
                reply: &mut state.reply,
                blobs: None,
                fx: &mut state.fx,
            },
        );
        if outcome == Outcome::Failed {
            let error = text(state.reply.strip_prefix(b"-").unwrap_or(&state.reply))
                .trim_end()
                .to_string();
            return Err(ApplyError::Refused {
                command: text(name),
                error,
            });
        }
        Ok(())
    }
}
