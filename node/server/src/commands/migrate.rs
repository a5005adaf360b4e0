//! `MIGRATE`: checked here, carried out by the control thread.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ConnId, Executor};
use crate::migrate::command::Migrate;
use holdfast_engine::{Begin, Find};

fn migrate(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if let Err(error) = Migrate::parse(argv) {
        return ex.reply_error(id, &error);
    }
    if ex.is_executing_transaction() {
        return ex.reply_error(id, "ERR MIGRATE is not allowed inside a transaction");
    }
    if !ex.control.ensure(&ex.config) {
        return ex.reply_error(id, "ERR MIGRATE is not possible here");
    }
    ex.defer(id, argv);
}

const MOVED: Key = Key::RW.and(Key::ACCESS).and(Key::DELETE);

/// The key, or those behind `KEYS`.
fn migrate_keys(argv: &[&[u8]], found: &mut dyn FnMut(usize, Key)) {
    let mut i = 6;
    while let Some(word) = argv.get(i) {
        let is = |text: &str| word.eq_ignore_ascii_case(text.as_bytes());
        i += match () {
            () if is("KEYS") => {
                // Both together are an error of syntax, and none is a key.
                if argv[3].is_empty() {
                    (i + 1..argv.len()).for_each(|key| found(key, MOVED));
                }
                return;
            }
            () if is("AUTH") => 2,
            () if is("AUTH2") => 3,
            () => 1,
        };
    }
    found(3, MOVED);
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[Command::new(
    CommandSpec {
        name: "migrate",
        arity: -6,
        flags: flags([Flags::WRITE, Flags::MOVABLE_KEYS]),
        categories: acl([Acl::KEYSPACE, Acl::DANGEROUS]),
        keys: &[
            KeySpec::range(MOVED, 3, 0, 1),
            KeySpec::new(
                MOVED.and(Key::INCOMPLETE),
                Begin::Keyword {
                    word: "KEYS",
                    from: -2,
                },
                Find::Range {
                    last: -1,
                    step: 1,
                    limit: 0,
                },
            ),
        ],
        group: Group::Generic,
        since: "2.6.0",
        complexity: "This command actually executes a DUMP+DEL in the source instance, and a RESTORE in the target instance. See the pages of these commands for time complexity. Also an O(N) data transfer between the two instances is performed.",
        summary: "Atomically transfers a key from one instance to another.",
        args: "host port:int (key:key | \"\"<empty-string>)<key-selector> destination-db:int timeout:int [COPY@3.0.0] [REPLACE@3.0.0] [(AUTH=auth~password@4.0.7 | AUTH2={username password}<auth2>@6.0.0)<authentication>] [KEYS=keys:key#1~key...@3.0.6]",
        tips: &["nondeterministic_output"],
        history: &[
            ("3.0.0", "Added the `COPY` and `REPLACE` options."),
            ("3.0.6", "Added the `KEYS` option."),
            ("4.0.7", "Added the `AUTH` option."),
            ("6.0.0", "Added the `AUTH2` option."),
        ],
        find_keys: Some(migrate_keys),
        ..CommandSpec::EMPTY
    },
    migrate as ServerFn,
)];
