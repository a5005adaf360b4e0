//! Commands on strings and on keys in general. Those of the other data types stand beside their representations.

mod cluster_scan;
mod counters;
pub(crate) mod expire;
mod keys;
mod ranges;
mod scan;
mod sort;
mod strings;

use crate::spec::Command;
use crate::types;

/// All tables of rows.
pub(crate) const TABLES: &[&[Command]] = &[
    strings::COMMANDS,
    counters::COMMANDS,
    ranges::COMMANDS,
    keys::COMMANDS,
    expire::COMMANDS,
    scan::COMMANDS,
    cluster_scan::COMMANDS,
    sort::COMMANDS,
    types::bitmap_commands::COMMANDS,
    types::bitfield_commands::COMMANDS,
    types::hll_commands::COMMANDS,
    types::geo_commands::COMMANDS,
    types::geo_search_commands::COMMANDS,
    types::hash_commands::COMMANDS,
    types::hash_expiry_commands::COMMANDS,
    types::hash_set_ex_commands::COMMANDS,
    types::list_commands::COMMANDS,
    types::list_move_commands::COMMANDS,
    types::set_commands::COMMANDS,
    types::stream_commands::COMMANDS,
    types::stream_group_commands::COMMANDS,
    types::stream_info_commands::COMMANDS,
    types::stream_read_commands::COMMANDS,
    types::zset_commands::COMMANDS,
    types::zset_range_commands::COMMANDS,
    types::zset_store_commands::COMMANDS,
];
