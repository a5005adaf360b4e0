//! Searches for places: `GEOSEARCH` and its kin.

use super::ZsetValue;
use super::geo::{self, Point, Search, Shape};
use super::geo_commands::{point_arg, reply_point, unit_arg};
use crate::call::{Call, CmdError, CmdResult, DONE};
use crate::engine::{Engine, Ttl};
use crate::events::EventClass;
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};
use crate::value::DataType;

fn length_arg(call: &Call<'_>, index: usize, error: &'static str) -> Result<f64, CmdError> {
    call.float_arg(index).map_err(|_| CmdError::Static(error))
}

fn radius_args(call: &Call<'_>, index: usize) -> Result<(f64, f64), CmdError> {
    let radius = length_arg(call, index, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(CmdError::Static("ERR radius cannot be negative"));
    }
    Ok((radius, unit_arg(call, index + 1)?))
}

fn box_args(call: &Call<'_>, index: usize) -> Result<(f64, f64, f64), CmdError> {
    let width = length_arg(call, index, "ERR need numeric width")?;
    let height = length_arg(call, index + 1, "ERR need numeric height")?;
    if height < 0.0 || width < 0.0 {
        return Err(CmdError::Static("ERR height or width cannot be negative"));
    }
    Ok((width, height, unit_arg(call, index + 2)?))
}

fn circle(centre: Point, (radius, unit): (f64, f64)) -> Shape {
    Shape::Circle {
        centre,
        radius,
        unit,
    }
}

fn point_of(zset: &ZsetValue, member: &[u8]) -> Result<Point, CmdError> {
    zset.score(member).map(Point::of_score).ok_or_else(|| {
        let text = [b"ERR member ", member, b" does not exist"].concat();
        CmdError::text(text)
    })
}

/// A place that a search has found.
struct Hit {
    member: Vec<u8>,
    point: Point,
    score: f64,
    distance: f64,
}

/// Where the centre of a search comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Georadius,
    Georadiusbymember,
    Geosearch,
}

#[derive(Default)]
struct Options<'a> {
    centre: Option<Point>,
    shape: Option<Shape>,
    with_distance: bool,
    with_hash: bool,
    with_coordinates: bool,
    /// Whether the farthest come last (`Some(false)`) or first.
    descending: Option<bool>,
    count: usize,
    any: bool,
    store: Option<&'a [u8]>,
    store_distance: bool,
}

/// What kind of search a command is.
#[derive(Clone, Copy)]
struct Kind {
    family: Family,
    /// `STORE` is an option, or the command is `GEOSEARCHSTORE`.
    stores: bool,
}

const GEORADIUS: Kind = Kind {
    family: Family::Georadius,
    stores: true,
};
const GEORADIUSBYMEMBER: Kind = Kind {
    family: Family::Georadiusbymember,
    stores: true,
};
const GEOSEARCHSTORE: Kind = Kind {
    family: Family::Geosearch,
    stores: true,
};

impl Kind {
    const fn without_store(self) -> Kind {
        Kind {
            stores: false,
            ..self
        }
    }
}

/// Parses a search's arguments. The set is needed for the places of members; without one, all that is missing is the
/// shape.
fn options<'a>(
    call: &Call<'a>,
    zset: Option<&ZsetValue>,
    kind: Kind,
) -> Result<Options<'a>, CmdError> {
    let mut o = Options::default();
    let search = kind.family == Family::Geosearch;
    let mut i = match kind.family {
        Family::Georadius => {
            o.shape = Some(circle(point_arg(call, 2)?, radius_args(call, 4)?));
            6
        }
        Family::Georadiusbymember => {
            if let Some(zset) = zset {
                let centre = point_of(zset, call.arg(2))?;
                o.shape = Some(circle(centre, radius_args(call, 3)?));
            }
            5
        }
        Family::Geosearch if kind.stores => {
            o.store = Some(call.arg(1));
            3
        }
        Family::Geosearch => 2,
    };
    let (mut from_member, mut from_point) = (false, false);
    let (mut radius, mut sides) = (None, None);
    let mut polygon = None;
    while i < call.argv.len() {
        let left = call.argv.len() - i - 1;
        let free = radius.is_none() && sides.is_none() && polygon.is_none();
        match () {
            () if call.arg_is(i, "WITHDIST") => o.with_distance = true,
            () if call.arg_is(i, "WITHHASH") => o.with_hash = true,
            () if call.arg_is(i, "WITHCOORD") => o.with_coordinates = true,
            () if call.arg_is(i, "ANY") => o.any = true,
            () if call.arg_is(i, "ASC") => o.descending = Some(false),
            () if call.arg_is(i, "DESC") => o.descending = Some(true),
            () if call.arg_is(i, "COUNT") && left >= 1 => {
                o.count = usize::try_from(call.int_arg(i + 1)?)
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or(CmdError::Static("ERR COUNT must be > 0"))?;
                i += 1;
            }
            () if !search && kind.stores && call.arg_is(i, "STORE") && left >= 1 => {
                (o.store, o.store_distance) = (Some(call.arg(i + 1)), false);
                i += 1;
            }
            () if !search && kind.stores && call.arg_is(i, "STOREDIST") && left >= 1 => {
                (o.store, o.store_distance) = (Some(call.arg(i + 1)), true);
                i += 1;
            }
            () if search && kind.stores && call.arg_is(i, "STOREDIST") => o.store_distance = true,
            () if search
                && call.arg_is(i, "FROMMEMBER")
                && left >= 1
                && !from_point
                && polygon.is_none() =>
            {
                if let Some(zset) = zset {
                    o.centre = Some(point_of(zset, call.arg(i + 1))?);
                }
                from_member = true;
                i += 1;
            }
            () if search
                && call.arg_is(i, "FROMLONLAT")
                && left >= 2
                && !from_member
                && polygon.is_none() =>
            {
                o.centre = Some(point_arg(call, i + 1)?);
                from_point = true;
                i += 2;
            }
            () if search
                && call.arg_is(i, "BYRADIUS")
                && left >= 2
                && (free || radius.is_some()) =>
            {
                radius = Some(radius_args(call, i + 1)?);
                i += 2;
            }
            () if search && call.arg_is(i, "BYBOX") && left >= 3 && (free || sides.is_some()) => {
                sides = Some(box_args(call, i + 1)?);
                i += 3;
            }
            () if search
                && call.arg_is(i, "BYPOLYGON")
                && left >= 2
                && radius.is_none()
                && sides.is_none()
                && !from_member
                && !from_point =>
            {
                let corners = call
                    .int_arg(i + 1)
                    .ok()
                    .and_then(|n| i32::try_from(n).ok())
                    .ok_or(CmdError::Static("ERR invalid number of vertices"))?;
                let corners = usize::try_from(corners)
                    .ok()
                    .filter(|n| *n >= 3 && *n <= (left - 1) / 2)
                    .ok_or(CmdError::Static(
                        "ERR GEOSEARCH BYPOLYGON must have at least 3 vertices",
                    ))?;
                let points = (0..corners).map(|n| point_arg(call, i + 2 + 2 * n));
                polygon = Some(points.collect::<Result<Vec<_>, _>>()?);
                i += 1 + 2 * corners;
            }
            () => return Err(CmdError::SYNTAX),
        }
        i += 1;
    }
    if o.store.is_some() && (o.with_distance || o.with_hash || o.with_coordinates) {
        return Err(CmdError::Static(if search {
            "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
        } else {
            "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
        }));
    }
    let name = String::from_utf8_lossy(call.arg(0));
    if search && !from_member && !from_point && polygon.is_none() {
        return Err(CmdError::text(format!(
            "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
        )));
    }
    if search && radius.is_none() && sides.is_none() && polygon.is_none() {
        return Err(CmdError::text(format!(
            "ERR exactly one of BYRADIUS, BYBOX and BYPOLYGON can be specified for {name}"
        )));
    }
    if o.any && o.count == 0 {
        return Err(CmdError::Static(
            "ERR the ANY argument requires COUNT argument",
        ));
    }
    let centre = o.centre.unwrap_or_default();
    if let Some(radius) = radius {
        o.shape = Some(circle(centre, radius));
    } else if let Some((width, height, unit)) = sides {
        o.shape = Some(Shape::Box {
            centre,
            width,
            height,
            unit,
        });
    } else if let Some(corners) = polygon {
        o.shape = Some(Shape::Polygon(corners));
    }
    Ok(o)
}

/// All places within the shape, in the order of cells and scores; with a limit, the first of them.
fn hits(zset: &ZsetValue, search: &Search, limit: usize) -> Vec<Hit> {
    let mut found = Vec::new();
    for (from, behind) in search.ranges() {
        let start = zset.partition_by_score(|score| score < from);
        let end = zset.partition_by_score(|score| score < behind);
        for (member, score) in zset.range(start..end, false) {
            if limit > 0 && found.len() >= limit {
                return found;
            }
            let point = Point::of_score(score);
            if let Some(distance) = search.distance_within(point) {
                found.push(Hit {
                    member: member.to_vec(),
                    point,
                    score,
                    distance,
                });
            }
        }
    }
    found
}

/// Brings the first `count` into order. Equally distant places stay in the order in which they were found.
fn sort(hits: &mut Vec<Hit>, count: usize, descending: bool) {
    let mut order: Vec<(f64, usize)> = hits.iter().map(|h| h.distance).zip(0..).collect();
    let compare = |a: &(f64, usize), b: &(f64, usize)| {
        let by_distance = if descending {
            b.0.total_cmp(&a.0)
        } else {
            a.0.total_cmp(&b.0)
        };
        by_distance.then(a.1.cmp(&b.1))
    };
    if count < order.len() {
        order.select_nth_unstable_by(count, compare);
        order.truncate(count);
    }
    order.sort_unstable_by(compare);
    let mut slots: Vec<_> = hits.drain(..).map(Some).collect();
    let sorted = order.iter().filter_map(|(_, at)| slots[*at].take());
    hits.extend(sorted);
}

fn search(engine: &mut Engine, call: &mut Call<'_>, kind: Kind) -> CmdResult {
    let source = if kind.family == Family::Geosearch && kind.stores {
        2
    } else {
        1
    };
    let zset = engine.read::<ZsetValue>(call, call.arg(source))?;
    let mut o = options(call, zset, kind)?;
    let (Some(zset), Some(shape)) = (zset, o.shape.take()) else {
        match o.store {
            Some(destination) => {
                engine.delete_and_report(call, destination);
                call.reply_int(0);
            }
            None => call.reply_array(0),
        }
        return DONE;
    };
    if o.count > 0 && o.descending.is_none() && !o.any {
        o.descending = Some(false);
    }
    let search = Search::new(shape);
    let mut hits = hits(zset, &search, if o.any { o.count } else { 0 });
    let wanted = if o.count == 0 {
        hits.len()
    } else {
        o.count.min(hits.len())
    };
    if let Some(descending) = o.descending {
        sort(&mut hits, wanted, descending);
    }
    hits.truncate(wanted);
    hits.iter_mut().for_each(|h| h.distance /= search.unit());
    match o.store {
        Some(destination) => store(engine, call, destination, &hits, o.store_distance, kind),
        None => reply(call, &hits, &o),
    }
    DONE
}

fn reply(call: &mut Call<'_>, hits: &[Hit], o: &Options<'_>) {
    let extras = [o.with_distance, o.with_hash, o.with_coordinates];
    let extras = extras.iter().filter(|set| **set).count();
    call.reply_array(hits.len());
    for hit in hits {
        if extras > 0 {
            call.reply_array(extras + 1);
        }
        call.reply_bulk(&hit.member);
        if o.with_distance {
            call.reply_bulk(geo::format_distance(hit.distance).as_bytes());
        }
        if o.with_hash {
            call.reply_int(hit.score as i64);
        }
        if o.with_coordinates {
            reply_point(call, hit.point);
        }
    }
}

fn store(
    engine: &mut Engine,
    call: &mut Call<'_>,
    destination: &[u8],
    hits: &[Hit],
    distances: bool,
    kind: Kind,
) {
    call.reply_len(hits.len());
    if hits.is_empty() {
        engine.delete_and_report(call, destination);
        return;
    }
    let limits = engine.limits();
    let longest = hits.iter().map(|h| h.member.len()).max().unwrap_or(0);
    let mut zset = ZsetValue::new_for(hits.len(), longest, &limits);
    for hit in hits {
        let score = if distances { hit.distance } else { hit.score };
        zset.insert(&hit.member, score, &limits);
    }
    engine.set_value(call, destination, zset.into_value(), Ttl::Clear);
    call.modified(destination, hits.len() as u64);
    let event = if kind.family == Family::Geosearch {
        "geosearchstore"
    } else {
        "georadiusstore"
    };
    call.notify(EventClass::ZSET, event, destination);
}

fn georadius(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    search(engine, call, GEORADIUS)
}

fn georadius_ro(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    search(engine, call, GEORADIUS.without_store())
}

fn georadiusbymember(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    search(engine, call, GEORADIUSBYMEMBER)
}

fn georadiusbymember_ro(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    search(engine, call, GEORADIUSBYMEMBER.without_store())
}

fn geosearch(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    search(engine, call, GEOSEARCHSTORE.without_store())
}

fn geosearchstore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    search(engine, call, GEOSEARCHSTORE)
}

/// The keys of `GEORADIUS` and `GEORADIUSBYMEMBER`: the set, and the last destination.
fn georadius_keys(argv: &[&[u8]], found: &mut dyn FnMut(usize, Key)) {
    found(1, Key::RO.and(Key::ACCESS));
    let mut store = None;
    let mut i = 5;
    while let Some(word) = argv.get(i) {
        let is_store =
            word.eq_ignore_ascii_case(b"STORE") || word.eq_ignore_ascii_case(b"STOREDIST");
        if is_store && i + 1 < argv.len() {
            i += 1;
            store = Some(i);
        }
        i += 1;
    }
    if let Some(store) = store {
        found(store, Key::OW.and(Key::UPDATE));
    }
}

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "georadius",
            arity: -6,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::GEO,
            keys: &[
                KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1),
                KeySpec::new(
                    Key::OW.and(Key::UPDATE).and(Key::VARIABLE_FLAGS),
                    Begin::Keyword {
                        word: "STORE",
                        from: 6,
                    },
                    Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                ),
                KeySpec::new(
                    Key::OW.and(Key::UPDATE).and(Key::VARIABLE_FLAGS),
                    Begin::Keyword {
                        word: "STOREDIST",
                        from: 6,
                    },
                    Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                ),
            ],
            group: Group::Geo,
            since: "3.2.0",
            complexity: "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by center and radius and M is the number of items inside the index.",
            summary: "Queries a geospatial index for members within a distance from a coordinate, optionally stores the result.",
            args: "key:key longitude:double latitude:double radius:double (M | KM | FT | MI)<unit> [WITHCOORD] [WITHDIST] [WITHHASH] [{COUNT=count:int [ANY@6.2.0]}<count-block>] [(ASC | DESC)<order>] [(STORE=storekey:key#1~key | STOREDIST=storedistkey:key#2~key)<store>]",
            history: &[
                ("6.2.0", "Added the `ANY` option for `COUNT`."),
                ("7.0.0", "Added support for uppercase unit names."),
            ],
            find_keys: Some(georadius_keys),
            ..CommandSpec::EMPTY
        },
        georadius,
    ),
    Command::new(
        CommandSpec {
            name: "georadius_ro",
            arity: -6,
            flags: Flags::READONLY,
            categories: Acl::GEO,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Geo,
            since: "3.2.10",
            complexity: "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by center and radius and M is the number of items inside the index.",
            summary: "Returns members from a geospatial index that are within a distance from a coordinate.",
            args: "key:key longitude:double latitude:double radius:double (M | KM | FT | MI)<unit> [WITHCOORD] [WITHDIST] [WITHHASH] [{COUNT=count:int [ANY@6.2.0]}<count-block>] [(ASC | DESC)<order>]",
            history: &[
                ("6.2.0", "Added the `ANY` option for `COUNT`."),
                ("7.0.0", "Added support for uppercase unit names."),
            ],
            ..CommandSpec::EMPTY
        },
        georadius_ro,
    ),
    Command::new(
        CommandSpec {
            name: "georadiusbymember",
            arity: -5,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::GEO,
            keys: &[
                KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1),
                KeySpec::new(
                    Key::OW.and(Key::UPDATE).and(Key::VARIABLE_FLAGS),
                    Begin::Keyword {
                        word: "STORE",
                        from: 5,
                    },
                    Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                ),
                KeySpec::new(
                    Key::OW.and(Key::UPDATE).and(Key::VARIABLE_FLAGS),
                    Begin::Keyword {
                        word: "STOREDIST",
                        from: 5,
                    },
                    Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                ),
            ],
            group: Group::Geo,
            since: "3.2.0",
            complexity: "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by center and radius and M is the number of items inside the index.",
            summary: "Queries a geospatial index for members within a distance from a member, optionally stores the result.",
            args: "key:key member radius:double (M | KM | FT | MI)<unit> [WITHCOORD] [WITHDIST] [WITHHASH] [{COUNT=count:int [ANY]}<count-block>] [(ASC | DESC)<order>] [(STORE=storekey:key#1~key | STOREDIST=storedistkey:key#2~key)<store>]",
            history: &[
                ("6.2.0", "Added the `ANY` option for `COUNT`."),
                ("7.0.0", "Added support for uppercase unit names."),
            ],
            find_keys: Some(georadius_keys),
            ..CommandSpec::EMPTY
        },
        georadiusbymember,
    ),
    Command::new(
        CommandSpec {
            name: "georadiusbymember_ro",
            arity: -5,
            flags: Flags::READONLY,
            categories: Acl::GEO,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Geo,
            since: "3.2.10",
            complexity: "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by center and radius and M is the number of items inside the index.",
            summary: "Returns members from a geospatial index that are within a distance from a member.",
            args: "key:key member radius:double (M | KM | FT | MI)<unit> [WITHCOORD] [WITHDIST] [WITHHASH] [{COUNT=count:int [ANY]}<count-block>] [(ASC | DESC)<order>]",
            history: &[
                ("6.2.0", "Added the `ANY` option for `COUNT`."),
                ("7.0.0", "Added support for uppercase unit names."),
            ],
            ..CommandSpec::EMPTY
        },
        georadiusbymember_ro,
    ),
    Command::new(
        CommandSpec {
            name: "geosearch",
            arity: -7,
            flags: Flags::READONLY,
            categories: Acl::GEO,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Geo,
            since: "6.2.0",
            complexity: "O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area around the shape provided as the filter and M is the number of items inside the shape",
            summary: "Queries a geospatial index for members inside an area of a box, circle, or a polygon.",
            args: "key:key [(FROMMEMBER=member | FROMLONLAT={longitude:double latitude:double}<fromlonlat>)<from>] ({BYRADIUS=radius:double (M | KM | FT | MI)<unit>}<circle> | {BYBOX=width:double height:double (M | KM | FT | MI)<unit>}<box> | {BYPOLYGON=num-vertices:int {longitude:double latitude:double}<vertices>...}<polygon>@9.0.0)<by> [(ASC | DESC)<order>] [{COUNT=count:int [ANY]}<count-block>] [WITHCOORD] [WITHDIST] [WITHHASH]",
            history: &[
                ("7.0.0", "Added support for uppercase unit names."),
                ("9.0.0", "Added support for the BYPOLYGON option."),
            ],
            ..CommandSpec::EMPTY
        },
        geosearch,
    ),
    Command::new(
        CommandSpec {
            name: "geosearchstore",
            arity: -8,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::GEO,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::range(Key::RO.and(Key::ACCESS), 2, 0, 1),
            ],
            group: Group::Geo,
            since: "6.2.0",
            complexity: "O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area around the shape provided as the filter and M is the number of items inside the shape",
            summary: "Queries a geospatial index for members inside an area of a box, a circle, or a polygon, optionally stores the result.",
            args: "destination:key source:key#1 [(FROMMEMBER=member | FROMLONLAT={longitude:double latitude:double}<fromlonlat>)<from>] ({BYRADIUS=radius:double (M | KM | FT | MI)<unit>}<circle> | {BYBOX=width:double height:double (M | KM | FT | MI)<unit>}<box> | {BYPOLYGON=num-vertices:int {longitude:double latitude:double}<vertices>...}<polygon>@9.0.0)<by> [(ASC | DESC)<order>] [{COUNT=count:int [ANY]}<count-block>] [STOREDIST]",
            history: &[
                ("7.0.0", "Added support for uppercase unit names."),
                ("9.0.0", "Added support for the BYPOLYGON option."),
            ],
            ..CommandSpec::EMPTY
        },
        geosearchstore,
    ),
];
