//! Commands on places, which are members of sorted sets.

use super::ZsetValue;
use super::geo::{self, Point};
use super::zset_commands::zadd;
use crate::call::{Call, CmdError, CmdResult, DONE};
use crate::engine::Engine;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use holdfast_resp::{Proto, format_i64, write};

/// The place that two arguments name.
pub(super) fn point_arg(call: &Call<'_>, index: usize) -> Result<Point, CmdError> {
    let point = Point {
        lon: call.float_arg(index)?,
        lat: call.float_arg(index + 1)?,
    };
    if point.is_valid() {
        return Ok(point);
    }
    Err(CmdError::text(format!(
        "ERR invalid longitude,latitude pair {:.6},{:.6}",
        point.lon, point.lat
    )))
}

/// Metres a unit.
pub(super) fn unit_arg(call: &Call<'_>, index: usize) -> Result<f64, CmdError> {
    match () {
        () if call.arg_is(index, "M") => Ok(1.0),
        () if call.arg_is(index, "KM") => Ok(1000.0),
        () if call.arg_is(index, "FT") => Ok(0.3048),
        () if call.arg_is(index, "MI") => Ok(1609.34),
        () => Err(CmdError::Static(
            "ERR unsupported unit provided. please use M, KM, FT, MI",
        )),
    }
}

fn geoadd(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let options = |i: &usize| ["NX", "XX", "CH"].iter().any(|word| call.arg_is(*i, word));
    let start = (2..call.argv.len())
        .find(|i| !options(i))
        .unwrap_or(call.argv.len());
    let has = |word: &str| (2..start).any(|i| call.arg_is(i, word));
    let places = call.argv.get(start..).unwrap_or_default();
    if !places.len().is_multiple_of(3) || (has("NX") && has("XX")) {
        return Err(CmdError::SYNTAX);
    }
    let mut scores = Vec::with_capacity(places.len() / 3);
    for i in (start..call.argv.len()).step_by(3) {
        scores.push(format_i64(point_arg(call, i)?.score() as i64));
    }
    // From here on it is a `ZADD`, for the copies as well.
    let mut argv: Vec<&[u8]> = vec![b"ZADD"];
    argv.extend(call.argv.get(1..start).unwrap_or_default());
    for (score, place) in scores.iter().zip(places.chunks_exact(3)) {
        argv.push(score.as_bytes());
        argv.extend(place.get(2));
    }
    let dirty = call.fx.dirty();
    let result = zadd(
        engine,
        &mut Call {
            argv: &argv,
            db: call.db,
            slot: call.slot,
            proto: call.proto,
            now_ms: call.now_ms,
            mode: call.mode,
            may_block: call.may_block,
            rng: call.rng,
            reply: call.reply,
            blobs: None,
            fx: call.fx,
        },
    )?;
    if call.fx.dirty() != dirty {
        call.rewrite(&argv);
    }
    Ok(result)
}

/// Longitude and latitude.
pub(super) fn reply_point(call: &mut Call<'_>, point: Point) {
    call.reply_array(2);
    for value in [point.lon, point.lat] {
        let text = geo::format_coordinate(value);
        match call.proto {
            Proto::Resp2 => write::bulk(call.reply, text.as_bytes()),
            Proto::Resp3 => {
                call.reply.push(b',');
                call.reply.extend_from_slice(text.as_bytes());
                call.reply.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// Answers something for each of the members that are asked for: for its place, if it has one.
fn each_place(
    engine: &mut Engine,
    call: &mut Call<'_>,
    mut answer: impl FnMut(&mut Call<'_>, Option<Point>),
) -> CmdResult {
    let zset = engine.read::<ZsetValue>(call, call.arg(1))?;
    let members = call.argv.get(2..).unwrap_or_default();
    call.reply_array(members.len());
    for member in members {
        let score = zset.and_then(|z| z.score(member));
        answer(call, score.map(Point::of_score));
    }
    DONE
}

fn geohash(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    each_place(engine, call, |call, place| match place {
        Some(place) => call.reply_bulk(&place.geohash()),
        None => call.reply_null(),
    })
}

fn geopos(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    each_place(engine, call, |call, place| match place {
        Some(place) => reply_point(call, place),
        None => call.reply_null_array(),
    })
}

fn geodist(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let unit = match call.argv.len() {
        4 => 1.0,
        5 => unit_arg(call, 4)?,
        _ => return Err(CmdError::SYNTAX),
    };
    let zset = engine.read::<ZsetValue>(call, call.arg(1))?;
    let score = |i: usize| zset.and_then(|z| z.score(call.arg(i)));
    match (score(2), score(3)) {
        (Some(a), Some(b)) => {
            let metres = geo::distance(Point::of_score(a), Point::of_score(b));
            call.reply_bulk(geo::format_distance(metres / unit).as_bytes());
        }
        _ => call.reply_null(),
    }
    DONE
}

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "geoadd",
            arity: -5,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::GEO,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Geo,
            since: "3.2.0",
            complexity: "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
            summary: "Adds one or more members to a geospatial index. The key is created if it doesn't exist.",
            args: "key:key [(NX | XX)<condition>@6.2.0] [CH<change>@6.2.0] {longitude:double latitude:double member}<data>...",
            history: &[("6.2.0", "Added the `CH`, `NX` and `XX` options.")],
            ..CommandSpec::EMPTY
        },
        geoadd,
    ),
    Command::new(
        CommandSpec {
            name: "geodist",
            arity: -4,
            flags: Flags::READONLY,
            categories: Acl::GEO,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Geo,
            since: "3.2.0",
            complexity: "O(1)",
            summary: "Returns the distance between two members of a geospatial index.",
            args: "key:key member1 member2 [(M | KM | FT | MI)<unit>]",
            ..CommandSpec::EMPTY
        },
        geodist,
    ),
    Command::new(
        CommandSpec {
            name: "geohash",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::GEO,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Geo,
            since: "3.2.0",
            complexity: "O(1) for each member requested.",
            summary: "Returns members from a geospatial index as geohash strings.",
            args: "key:key [member...]",
            ..CommandSpec::EMPTY
        },
        geohash,
    ),
    Command::new(
        CommandSpec {
            name: "geopos",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::GEO,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Geo,
            since: "3.2.0",
            complexity: "O(1) for each member requested.",
            summary: "Returns the longitude and latitude of members from a geospatial index.",
            args: "key:key [member...]",
            ..CommandSpec::EMPTY
        },
        geopos,
    ),
];
