//! Charts as SVG: lines over an axis, several below each other, and bars in groups.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const PANEL: f64 = 330.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 46.0;
const COLOURS: [&str; 6] = [
    "#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#6b7280",
];

/// A line, or a colour of bars.
#[derive(Clone, Debug)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// For a line: x and y. For bars: the number of the group and its value.
    pub points: Vec<(f64, f64)>,
}

/// What is on the axis below.
#[derive(Clone, Debug)]
pub enum Axis {
    /// Seconds from 0.
    Seconds,
    /// Percentiles, wider the nearer they are to 100.
    Percentiles,
    /// Names of groups of bars.
    Groups(Vec<String>),
}

/// What is on the axis beside a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Numbers of a unit.
    Numbers(&'static str),
    /// Microseconds, shown in the unit that suits them.
    Micros,
}

impl Values {
    fn show(self, value: f64) -> String {
        match self {
            Values::Numbers(_) => short(value),
            Values::Micros if value == 0.0 => "0".to_owned(),
            Values::Micros if value < 1e3 => format!("{} us", short(value)),
            Values::Micros if value < 1e6 => format!("{} ms", short(value / 1e3)),
            Values::Micros => format!("{} s", short(value / 1e6)),
        }
    }
}

/// One chart.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// What is on the axis beside it.
    pub values: Values,
    /// Below it.
    pub axis: Axis,
    /// What is drawn.
    pub series: Vec<Series>,
    /// Whether the values' axis is logarithmic.
    pub logarithmic: bool,
}

/// The charts below each other.
pub fn draw(panels: &[Panel]) -> String {
    let height = PANEL * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<g transform=\"translate(0 {})\">",
            PANEL * number as f64
        );
        panel.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where on the axis a percentile lies: each nine has the same width.
fn percentile_position(percent: f64) -> f64 {
    -((100.0 - percent).max(1e-7) / 100.0).log10()
}

impl Panel {
    fn draw(&self, svg: &mut String) {
        text(svg, LEFT, 24.0, "start", 16, &self.title);
        if let Values::Numbers(unit) = self.values {
            text(svg, LEFT - 6.0, TOP - 12.0, "end", 11, unit);
        }
        self.legend(svg);
        let values = || self.series.iter().flat_map(|s| &s.points).map(|p| p.1);
        let max = values().fold(0.0, f64::max);
        let min = values().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
        let scale = if self.logarithmic && min < max {
            Scale::Logarithmic {
                first: min.log10().floor(),
                last: max.log10().ceil(),
            }
        } else {
            Scale::Linear {
                max: if max > 0.0 { nice_above(max) } else { 1.0 },
            }
        };
        for value in scale.marks() {
            let at = scale.y(value);
            line(svg, (LEFT, at), (WIDTH - RIGHT, at), "#e5e7eb");
            text(
                svg,
                LEFT - 6.0,
                at + 4.0,
                "end",
                11,
                &self.values.show(value),
            );
        }
        match &self.axis {
            Axis::Groups(names) => self.bars(svg, names, &scale),
            Axis::Seconds => self.lines(svg, &scale, |x| x, |x| format!("{x} s")),
            Axis::Percentiles => self.lines(svg, &scale, percentile_position, |_| String::new()),
        }
    }

    fn legend(&self, svg: &mut String) {
        if self.series.len() < 2 {
            return;
        }
        let mut x = LEFT;
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let _ = writeln!(
                svg,
                r#"<rect x="{x:.1}" y="34" width="11" height="11" fill="{colour}"/>"#
            );
            text(svg, x + 16.0, 44.0, "start", 12, &series.name);
            x += 34.0 + 6.8 * series.name.chars().count() as f64;
        }
    }

    fn lines(
        &self,
        svg: &mut String,
        scale: &Scale,
        position: impl Fn(f64) -> f64,
        label: impl Fn(f64) -> String,
    ) {
        let bottom = PANEL - BOTTOM;
        let all = || self.series.iter().flat_map(|s| &s.points).map(|p| p.0);
        let last = all().map(&position).fold(0.0, f64::max).max(1e-9);
        let x = |value: f64| LEFT + position(value) / last * (WIDTH - LEFT - RIGHT);
        let marks: Vec<(f64, String)> = match self.axis {
            Axis::Percentiles => [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999]
                .into_iter()
                .filter(|p| position(*p) <= last)
                .map(|p| (p, format!("{p} %")))
                .collect(),
            _ => {
                let step = nice_above(last / 8.0);
                (0..)
                    .map(|n| f64::from(n) * step)
                    .take_while(|v| *v <= last)
                    .map(|v| (v, label((v * 1e6).round() / 1e6)))
                    .collect()
            }
        };
        for (value, label) in marks {
            let at = x(value);
            line(svg, (at, bottom), (at, bottom + 5.0), "#9ca3af");
            text(svg, at, bottom + 20.0, "middle", 11, &label);
        }
        for (number, series) in self.series.iter().enumerate() {
            let mut path = String::new();
            for (n, point) in series.points.iter().enumerate() {
                let letter = if n == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{:.1} {:.1}", x(point.0), scale.y(point.1));
            }
            let colour = COLOURS[number % COLOURS.len()];
            let _ = writeln!(
                svg,
                r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>"#
            );
        }
    }

    fn bars(&self, svg: &mut String, names: &[String], scale: &Scale) {
        let bottom = PANEL - BOTTOM;
        let group = (WIDTH - LEFT - RIGHT) / names.len().max(1) as f64;
        let width = (group * 0.82 / self.series.len().max(1) as f64).min(70.0);
        for (number, name) in names.iter().enumerate() {
            let centre = LEFT + group * (number as f64 + 0.5);
            text(svg, centre, bottom + 18.0, "middle", 11, name);
        }
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            for (of, value) in &series.points {
                let centre = LEFT + group * (of + 0.5);
                let x = centre + (number as f64 - self.series.len() as f64 / 2.0) * width;
                let top = scale.y(*value);
                let _ = writeln!(
                    svg,
                    r#"<rect x="{:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>"#,
                    x + 1.0,
                    (width - 2.0).max(1.0),
                    (bottom - top).max(0.0),
                );
                let label = self.values.show(*value);
                text(svg, x + width / 2.0, top - 4.0, "middle", 10, &label);
            }
        }
    }
}

enum Scale {
    Linear { max: f64 },
    Logarithmic { first: f64, last: f64 },
}

impl Scale {
    fn y(&self, value: f64) -> f64 {
        let part = match self {
            Scale::Linear { max } => value / max,
            Scale::Logarithmic { first, last } => {
                (value.max(10f64.powf(*first)).log10() - first) / (last - first)
            }
        };
        PANEL - BOTTOM - part.clamp(0.0, 1.0) * (PANEL - TOP - BOTTOM)
    }

    fn marks(&self) -> Vec<f64> {
        match self {
            Scale::Linear { max } => (0..=4).map(|n| max * f64::from(n) / 4.0).collect(),
            Scale::Logarithmic { first, last } => (*first as i32..=*last as i32)
                .map(|e| 10f64.powi(e))
                .collect(),
        }
    }
}

/// The next of 1, 2, 4, 5 or 8 times a power of ten.
fn nice_above(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-12).log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps.into_iter().find(|s| value <= s * power * 1.000_001);
    step.unwrap_or(10.0) * power
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}"/>"#,
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="#111827">{text}</text>"##
    );
}

fn short(value: f64) -> String {
    let digits = |value: f64, unit: &str| {
        let text = format!("{value:.2}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{text}{unit}")
    };
    match value {
        v if v >= 1e6 => digits(v / 1e6, " M"),
        v if v >= 10_000.0 => digits((v / 100.0).round() / 10.0, " k"),
        v if v >= 100.0 => digits(v.round(), ""),
        v if v >= 0.01 || v == 0.0 => digits(v, ""),
        v => format!("{v:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_panel_is_drawn() {
        let series = |name: &str| Series {
            name: name.to_owned(),
            points: vec![(0.0, 5.0), (1.0, 400.0), (99.0, 50.0)],
        };
        let panel = |axis, logarithmic| Panel {
            title: "a < b".to_owned(),
            values: Values::Micros,
            axis,
            series: vec![series("one"), series("two")],
            logarithmic,
        };
        let groups = Axis::Groups(vec!["x".into(), "y".into()]);
        let svg = draw(&[
            panel(Axis::Percentiles, true),
            panel(Axis::Seconds, false),
            panel(groups, false),
        ]);
        assert_eq!(svg.matches("<path").count(), 4);
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
        let empty = Panel {
            series: vec![],
            ..panel(Axis::Seconds, true)
        };
        assert!(!draw(&[empty]).contains("NaN"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(short(1_250_000.0), "1.25 M");
        assert_eq!(short(65_432.0), "65.4 k");
        assert_eq!(short(0.5), "0.5");
        assert_eq!(Values::Micros.show(10_000.0), "10 ms");
        assert!((nice_above(0.3) - 0.32).abs() < 1e-9);
        assert_eq!(nice_above(95.0), 100.0);
    }
}
