//! Places on the earth as scores of a sorted set: 52-bit geohashes, distances, and which cells of the grid a search must look at.
//!
//! A cell of `steps` halvings each way has a number of `2 * steps` bits, longitude and latitude in turns (longitude in the
//! higher bit of each pair). A score is the number of a cell of 26 steps, so the places in a cell are a range of scores. The
//! formulas, and the order of their operations, are those of Valkey (`geohash.c`, `geohash_helper.c`): results are the same to the
//! last digit.

use std::f64::consts::PI;

/// The limits of EPSG:3857: what lies nearer to a pole has no place.
pub const LON_MAX: f64 = 180.0;
/// See [`LON_MAX`].
pub const LAT_MAX: f64 = 85.051_128_78;
/// Halvings of a score.
const STEPS_MAX: u32 = 26;
/// The earth's mean radius in metres.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half of the equator in Mercator's projection, in metres.
const MERCATOR_MAX: f64 = 20_037_726.37;

const LON_BITS: u64 = 0xaaaa_aaaa_aaaa_aaaa;
const LAT_BITS: u64 = 0x5555_5555_5555_5555;

/// A place in degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Longitude.
    pub lon: f64,
    /// Latitude.
    pub lat: f64,
}

impl Point {
    /// Whether it has a place on the grid.
    pub fn is_valid(self) -> bool {
        (-LON_MAX..=LON_MAX).contains(&self.lon) && (-LAT_MAX..=LAT_MAX).contains(&self.lat)
    }

    /// Its score.
    pub fn score(self) -> u64 {
        Cell::at(self, LON_MAX, LAT_MAX, STEPS_MAX).bits
    }

    /// The middle of the cell that a score means.
    pub fn of_score(score: f64) -> Point {
        // Negative scores, which are no places, wrap around as a conversion by way of a signed integer does.
        let bits = if score < 0.0 {
            score as i64 as u64
        } else {
            score as u64
        };
        let area = Cell {
            bits,
            steps: STEPS_MAX,
        }
        .area();
        let middle = |low: f64, high: f64, max: f64| ((low + high) / 2.0).clamp(-max, max);
        Point {
            lon: middle(area.west, area.east, LON_MAX),
            lat: middle(area.south, area.north, LAT_MAX),
        }
    }

    /// The customary geohash text: unlike scores it counts latitudes up to the poles. Its last letter is always `0`, for want of
    /// bits.
    pub fn geohash(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = Cell::at(self, 180.0, 90.0, STEPS_MAX).bits;
        let mut text = [b'0'; 11];
        for (i, letter) in text.iter_mut().take(10).enumerate() {
            *letter = LETTERS[(bits >> (52 - (i + 1) * 5)) as usize & 31];
        }
        text
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * (PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (PI / 180.0)
}

fn lat_distance(a: f64, b: f64) -> f64 {
    EARTH_RADIUS * (radians(b) - radians(a)).abs()
}

/// Metres between two places, on a sphere.
pub fn distance(a: Point, b: Point) -> f64 {
    let v = ((radians(b.lon) - radians(a.lon)) / 2.0).sin();
    // Equal longitudes, but for some nanometres, save the rest.
    if v.abs() <= 1e-15 {
        return lat_distance(a.lat, b.lat);
    }
    let (lat_a, lat_b) = (radians(a.lat), radians(b.lat));
    let u = ((lat_b - lat_a) / 2.0).sin();
    let h = u * u + lat_a.cos() * lat_b.cos() * v * v;
    2.0 * EARTH_RADIUS * h.sqrt().asin()
}

/// A distance as replies show it: four digits behind the point.
pub fn format_distance(metres: f64) -> String {
    let scaled = (metres * 10_000.0).round_ties_even() as i64;
    format!("{}.{:04}", scaled / 10_000, scaled % 10_000)
}

/// A coordinate as replies show it: up to 17 digits behind the point.
pub fn format_coordinate(degrees: f64) -> String {
    let text = format!("{degrees:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    (if text == "-0" { "0" } else { text }).to_string()
}

/// Puts the bits of a number at every second place.
fn spread(x: u32) -> u64 {
    let mut x = u64::from(x);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x << 2) & 0x3333_3333_3333_3333;
    (x | x << 1) & LAT_BITS
}

/// Takes every second bit, from the lowest on.
fn gather(x: u64) -> u32 {
    let mut x = x & LAT_BITS;
    x = (x | x >> 1) & 0x3333_3333_3333_3333;
    x = (x | x >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// A cell of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    bits: u64,
    steps: u32,
}

/// The sides of a cell or box, in degrees.
#[derive(Clone, Copy, Debug)]
struct Area {
    west: f64,
    south: f64,
    east: f64,
    north: f64,
}

impl Cell {
    /// The cell that a place lies in, on a grid that goes so far from the middle.
    fn at(point: Point, lon_max: f64, lat_max: f64, steps: u32) -> Cell {
        let part = |value: f64, max: f64| {
            let offset = (value + max) / (max + max);
            (offset * (1u64 << steps) as f64) as u32
        };
        Cell {
            bits: spread(part(point.lat, lat_max)) | spread(part(point.lon, lon_max)) << 1,
            steps,
        }
    }

    fn area(self) -> Area {
        let side = |n: u64, max: f64| {
            let part = n as f64 / (1u64 << self.steps) as f64;
            -max + part * (max + max)
        };
        let (lon, lat) = (
            u64::from(gather(self.bits >> 1)),
            u64::from(gather(self.bits)),
        );
        // The number of a cell that is none may be the highest there is; the next one then is 0, as in 32 bits.
        let next = |n: u64| u64::from((n as u32).wrapping_add(1));
        Area {
            west: side(lon, LON_MAX),
            south: side(lat, LAT_MAX),
            east: side(next(lon), LON_MAX),
            north: side(next(lat), LAT_MAX),
        }
    }

    /// The cell so many steps (-1, 0, 1) to the east and north of it, around the edges of the grid.
    fn neighbour(self, east: i32, north: i32) -> Cell {
        let used = 64 - self.steps * 2;
        let moved = |own: u64, others: u64, by: i32| {
            let (bits, fill) = (self.bits & own, others >> used);
            let bits = match by {
                0 => return bits,
                // A carry runs through the other coordinate's bits when they are all set, a borrow when they are clear.
                1 => bits.wrapping_add(fill + 1),
                _ => (bits | fill).wrapping_sub(fill + 1),
            };
            bits & own >> used
        };
        Cell {
            bits: moved(LON_BITS, LAT_BITS, east) | moved(LAT_BITS, LON_BITS, north),
            ..self
        }
    }

    /// The scores of the places in it: the first, and the first behind.
    fn scores(self) -> (f64, f64) {
        let shift = 52 - self.steps * 2;
        (
            (self.bits << shift) as f64,
            ((self.bits + 1) << shift) as f64,
        )
    }
}

/// What a search looks for.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Up to this far from the centre, in metres.
    Circle {
        /// The centre.
        centre: Point,
        /// In units.
        radius: f64,
        /// Metres a unit.
        unit: f64,
    },
    /// A box around the centre, in metres, its sides along the meridians.
    Box {
        /// The centre.
        centre: Point,
        /// In units.
        width: f64,
        /// In units.
        height: f64,
        /// Metres a unit.
        unit: f64,
    },
    /// Inside of the lines between these corners.
    Polygon(Vec<Point>),
}

/// A shape made ready to be asked about places.
#[derive(Debug)]
pub struct Search {
    shape: Shape,
    centre: Point,
    cells: Vec<Cell>,
}

impl Search {
    /// Chooses the cells to look at.
    pub fn new(shape: Shape) -> Search {
        let (centre, bounds, radius) = match &shape {
            Shape::Circle {
                centre,
                radius,
                unit,
            } => {
                let bounds = bounds(*centre, unit * radius, unit * radius);
                (*centre, bounds, radius * unit)
            }
            Shape::Box {
                centre,
                width,
                height,
                unit,
            } => {
                let bounds = bounds(*centre, unit * width / 2.0, unit * height / 2.0);
                let (w, h) = (width / 2.0, height / 2.0);
                (*centre, bounds, (w * w + h * h).sqrt() * unit)
            }
            Shape::Polygon(corners) => {
                let (centre, bounds) = around(corners);
                let corner = |lon, lat| distance(centre, Point { lon, lat });
                let radius = corner(bounds.west, bounds.north)
                    .max(corner(bounds.east, bounds.north))
                    .max(corner(bounds.west, bounds.south))
                    .max(corner(bounds.east, bounds.south));
                (centre, bounds, radius)
            }
        };
        Search {
            shape,
            centre,
            cells: cells(centre, bounds, radius),
        }
    }

    /// Metres a unit of the shape's measures.
    pub fn unit(&self) -> f64 {
        match self.shape {
            Shape::Circle { unit, .. } | Shape::Box { unit, .. } => unit,
            Shape::Polygon(_) => 1.0,
        }
    }

    /// The ranges of scores to be looked at, one after the other: from the first score up to the second, which is not part of it.
    pub fn ranges(&self) -> impl Iterator<Item = (f64, f64)> {
        self.cells.iter().map(|cell| cell.scores())
    }

    /// The distance of a place from the centre, if it lies within the shape.
    pub fn distance_within(&self, point: Point) -> Option<f64> {
        match &self.shape {
            Shape::Circle { radius, unit, .. } => {
                let d = distance(self.centre, point);
                if d > radius * unit { None } else { Some(d) }
            }
            Shape::Box {
                width,
                height,
                unit,
                ..
            } => {
                if lat_distance(point.lat, self.centre.lat) > height * unit / 2.0 {
                    return None;
                }
                let level = Point {
                    lon: self.centre.lon,
                    lat: point.lat,
                };
                if distance(point, level) > width * unit / 2.0 {
                    return None;
                }
                Some(distance(self.centre, point))
            }
            Shape::Polygon(corners) => {
                is_inside(corners, point).then(|| distance(self.centre, point))
            }
        }
    }
}

/// A ray from the point to the east crosses the sides an odd number of times.
fn is_inside(corners: &[Point], p: Point) -> bool {
    let previous = corners.iter().cycle().skip(corners.len().max(1) - 1);
    corners
        .iter()
        .zip(previous)
        .filter(|(a, b)| {
            (a.lat > p.lat) != (b.lat > p.lat)
                && p.lon < (b.lon - a.lon) * (p.lat - a.lat) / (b.lat - a.lat) + a.lon
        })
        .count()
        % 2
        == 1
}

/// The box that holds everything up to so many metres to each side of the centre.
fn bounds(centre: Point, width: f64, height: f64) -> Area {
    let lat = degrees(height / EARTH_RADIUS);
    // The half that is nearer to a pole is wider in degrees.
    let wide = if centre.lat < 0.0 {
        centre.lat - lat
    } else {
        centre.lat + lat
    };
    let lon = degrees(width / EARTH_RADIUS / radians(wide).cos());
    Area {
        west: centre.lon - lon,
        south: centre.lat - lat,
        east: centre.lon + lon,
        north: centre.lat + lat,
    }
}

/// The middle of some corners, and the box around them.
fn around(corners: &[Point]) -> (Point, Area) {
    let mut area = Area {
        west: LON_MAX,
        south: LAT_MAX,
        east: -LON_MAX,
        north: -LAT_MAX,
    };
    let (mut x, mut y, mut z) = (0.0, 0.0, 0.0);
    for p in corners {
        area.west = area.west.min(p.lon);
        area.east = area.east.max(p.lon);
        area.south = area.south.min(p.lat);
        area.north = area.north.max(p.lat);
        let (lon, lat) = (radians(p.lon), radians(p.lat));
        x += lat.cos() * lon.cos();
        y += lat.cos() * lon.sin();
        z += lat.sin();
    }
    let middle = Point {
        lon: degrees(f64::atan2(y, x)),
        lat: degrees(f64::atan2(z, (x * x + y * y).sqrt())),
    };
    (middle, area)
}

/// How fine a grid may be for nine cells to cover a circle.
fn steps_for(mut radius: f64, lat: f64) -> u32 {
    if radius == 0.0 {
        return STEPS_MAX;
    }
    let mut steps = 1;
    while radius < MERCATOR_MAX {
        radius *= 2.0;
        steps += 1;
    }
    steps -= 2;
    // Cells are narrower towards the poles.
    if !(-66.0..=66.0).contains(&lat) {
        steps -= 1;
        if !(-80.0..=80.0).contains(&lat) {
            steps -= 1;
        }
    }
    steps.clamp(1, STEPS_MAX as i32) as u32
}

/// The cells that a search looks at, in the order of Valkey's answers. None twice in a row.
fn cells(centre: Point, bounds: Area, radius: f64) -> Vec<Cell> {
    let mut steps = steps_for(radius, centre.lat);
    let mut cell = Cell::at(centre, LON_MAX, LAT_MAX, steps);
    let falls_short = cell.neighbour(0, 1).area().north < bounds.north
        || cell.neighbour(0, -1).area().south > bounds.south
        || cell.neighbour(1, 0).area().east < bounds.east
        || cell.neighbour(-1, 0).area().west > bounds.west;
    if steps > 1 && falls_short {
        steps -= 1;
        cell = Cell::at(centre, LON_MAX, LAT_MAX, steps);
    }
    let own = cell.area();
    let order = [
        (0, 0),
        (0, 1),
        (0, -1),
        (1, 0),
        (-1, 0),
        (1, 1),
        (-1, 1),
        (1, -1),
        (-1, -1),
    ];
    // Nothing is to be found beyond a side that lies outside of the box already.
    let needed = |(east, north): &(i32, i32)| {
        steps < 2
            || !((own.south < bounds.south && *north == -1)
                || (own.north > bounds.north && *north == 1)
                || (own.west < bounds.west && *east == -1)
                || (own.east > bounds.east && *east == 1))
    };
    let mut found = Vec::with_capacity(order.len());
    // On a grid of a few cells neighbours coincide.
    let mut last = None;
    for (east, north) in order.iter().filter(|at| needed(at)) {
        let next = cell.neighbour(*east, *north);
        if last == Some(next) {
            continue;
        }
        if !found.is_empty() {
            last = Some(next);
        }
        found.push(next);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn point(rng: &mut Rng) -> Point {
        let near = rng.index(3) == 0;
        let (lon, lat) = if near { (2.0, 2.0) } else { (360.0, 170.0) };
        Point {
            lon: (rng.unit() - 0.5) * lon,
            lat: (rng.unit() - 0.5) * lat,
        }
    }

    #[test]
    fn scores_keep_places() {
        let mut rng = Rng::new(1);
        for _ in 0..2000 {
            let place = point(&mut rng);
            let found = Point::of_score(place.score() as f64);
            assert!(distance(place, found) < 0.7, "{place:?} {found:?}");
            assert_eq!(found.score(), place.score());
        }
    }

    #[test]
    fn known_distances_and_texts() {
        let palermo = Point {
            lon: 13.361389,
            lat: 38.115556,
        };
        let catania = Point {
            lon: 15.087269,
            lat: 37.502669,
        };
        assert_eq!(palermo.score(), 3_479_099_956_230_698);
        assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
        let (a, b) = (palermo.score() as f64, catania.score() as f64);
        let metres = distance(Point::of_score(a), Point::of_score(b));
        assert_eq!(format_distance(metres), "166274.1516");
        assert_eq!(format_distance(0.0), "0.0000");
        assert_eq!(
            format_coordinate(Point::of_score(a).lon),
            "13.36138933897018433"
        );
        assert_eq!(format_coordinate(-0.0), "0");
    }

    /// The chosen cells hold all places that a look at each place finds, none of them twice.
    ///
    /// Shapes that reach a pole or the 180th meridian are left out: there the cells miss some, as Valkey's do.
    #[test]
    fn cells_miss_nothing() {
        let mut rng = Rng::new(2);
        for round in 0..400 {
            let centre = Point {
                lon: (rng.unit() - 0.5) * 200.0,
                lat: (rng.unit() - 0.5) * 100.0,
            };
            let size = 10f64.powf(1.0 + rng.unit() * 5.0);
            let shape = match rng.index(3) {
                0 => Shape::Circle {
                    centre,
                    radius: size,
                    unit: 1.0,
                },
                1 => Shape::Box {
                    centre,
                    width: size / 1000.0,
                    height: size * rng.unit() / 1000.0,
                    unit: 1000.0,
                },
                _ => {
                    let reach = degrees(size / EARTH_RADIUS);
                    let corner = |rng: &mut Rng| Point {
                        lon: centre.lon + (rng.unit() - 0.5) * reach,
                        lat: centre.lat + (rng.unit() - 0.5) * reach,
                    };
                    Shape::Polygon((0..3 + rng.index(4)).map(|_| corner(&mut rng)).collect())
                }
            };
            let spread = degrees(size / EARTH_RADIUS) * 3.0;
            let mut scores: Vec<u64> = (0..300)
                .map(|_| Point {
                    lon: centre.lon + (rng.unit() - 0.5) * spread,
                    lat: centre.lat + (rng.unit() - 0.5) * spread,
                })
                .filter(|p| p.is_valid())
                .map(Point::score)
                .collect();
            scores.sort_unstable();
            scores.dedup();
            let search = Search::new(shape);
            let inside = |score: &&u64| {
                let place = Point::of_score(**score as f64);
                search.distance_within(place).is_some()
            };
            let expect: Vec<u64> = scores.iter().filter(inside).copied().collect();
            let mut found: Vec<u64> = search
                .ranges()
                .flat_map(|(from, behind)| {
                    let within = move |s: &&u64| (from..behind).contains(&(**s as f64));
                    scores.iter().filter(within).filter(inside).copied()
                })
                .collect();
            found.sort_unstable();
            assert_eq!(found, expect, "round {round}: {search:?}");
        }
    }
}
