//! The data types: for each, one file for its representation (`*_value.rs`) and one for its commands.

pub mod bitfield_commands;
pub mod bitmap_commands;
pub mod bits;
mod data_type;
pub mod geo;
pub mod geo_commands;
pub mod hash_commands;
pub mod hash_table;
pub mod hash_value;
pub mod hll;
pub mod hll_commands;
pub mod limits;
pub mod list_commands;
pub mod list_move_commands;
pub mod list_value;
pub mod listpack;
pub mod set_commands;
pub mod set_ints;
pub mod set_value;
pub mod zset_commands;
pub mod zset_range_commands;
pub mod zset_store_commands;
pub mod zset_tree;
pub mod zset_value;

pub use hash_value::HashValue;
pub use limits::TypeLimits;
pub use list_value::ListValue;
pub use set_value::SetValue;
pub use zset_value::ZsetValue;
