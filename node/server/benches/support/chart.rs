//! Charts as SVG files: bars in groups, and points over time. Plain enough to be read in a pull request.

use std::fmt::Write;
use std::path::PathBuf;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 48.0;
const COLOURS: [&str; 4] = ["#2563eb", "#9ca3af", "#d97706", "#059669"];

/// One colour of bars, with a value for each group.
pub struct Series {
    pub name: String,
    pub values: Vec<f64>,
}

/// Bars in groups; written to `name`.svg in the output folder, whose path is returned.
pub fn bars(name: &str, title: &str, unit: &str, groups: &[String], series: &[Series]) -> PathBuf {
    let max = series
        .iter()
        .flat_map(|s| &s.values)
        .copied()
        .fold(0.0, f64::max);
    let mut svg = begin(title, unit, max);
    let plot = WIDTH - LEFT - RIGHT;
    let group_width = plot / groups.len().max(1) as f64;
    let bar_width = (group_width * 0.8 / series.len().max(1) as f64).min(70.0);
    for (g, group) in groups.iter().enumerate() {
        let centre = LEFT + group_width * (g as f64 + 0.5);
        text(
            &mut svg,
            centre,
            HEIGHT - BOTTOM + 20.0,
            "middle",
            13,
            group,
        );
        for (s, one) in series.iter().enumerate() {
            let value = one.values.get(g).copied().unwrap_or(0.0);
            let x = centre + (s as f64 - series.len() as f64 / 2.0) * bar_width;
            let top = y(value, max);
            let _ = writeln!(
                svg,
                r#"<rect x="{:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{}"/>"#,
                x + 1.0,
                bar_width - 2.0,
                HEIGHT - BOTTOM - top,
                COLOURS[s % COLOURS.len()]
            );
            text(
                &mut svg,
                x + bar_width / 2.0,
                top - 4.0,
                "middle",
                11,
                &short(value),
            );
        }
    }
    let names: Vec<&str> = series.iter().map(|s| s.name.as_str()).collect();
    legend(&mut svg, &names);
    save(name, svg)
}

/// One point for each value, in their order; written to `name`.svg.
pub fn points(name: &str, title: &str, unit: &str, values: &[f64]) -> PathBuf {
    let max = values.iter().copied().fold(0.0, f64::max);
    let mut svg = begin(title, unit, max);
    let step = (WIDTH - LEFT - RIGHT) / values.len().max(1) as f64;
    for (n, value) in values.iter().enumerate() {
        let x = LEFT + step * (n as f64 + 0.5);
        let _ = writeln!(
            svg,
            r#"<circle cx="{x:.1}" cy="{:.1}" r="4" fill="{}"/>"#,
            y(*value, max),
            COLOURS[0]
        );
        if values.len() <= 40 {
            text(
                &mut svg,
                x,
                HEIGHT - BOTTOM + 20.0,
                "middle",
                11,
                &(n + 1).to_string(),
            );
        }
    }
    save(name, svg)
}

fn y(value: f64, max: f64) -> f64 {
    let plot = HEIGHT - TOP - BOTTOM;
    HEIGHT
        - BOTTOM
        - if max > 0.0 {
            value / (max * 1.1) * plot
        } else {
            0.0
        }
}

fn begin(title: &str, unit: &str, max: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut svg, LEFT, 24.0, "start", 16, title);
    for quarter in 0..=4 {
        let value = max * f64::from(quarter) / 4.0;
        let at = y(value, max);
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}" stroke="#e5e7eb"/>"##,
            WIDTH - RIGHT
        );
        text(&mut svg, LEFT - 6.0, at + 4.0, "end", 11, &short(value));
    }
    text(&mut svg, LEFT - 6.0, TOP - 12.0, "end", 11, unit);
    svg
}

fn legend(svg: &mut String, names: &[&str]) {
    let mut x = LEFT;
    for (n, name) in names.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let _ = writeln!(
            svg,
            r#"<rect x="{x:.1}" y="32" width="11" height="11" fill="{colour}"/>"#
        );
        text(svg, x + 16.0, 42.0, "start", 12, name);
        x += 32.0 + 7.0 * name.len() as f64;
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="#111827">{text}</text>"##
    );
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 10_000.0 => format!("{:.0} k", v / 1e3),
        v if v >= 100.0 || v == 0.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

fn save(name: &str, mut svg: String) -> PathBuf {
    svg.push_str("</svg>\n");
    let path = super::output_dir().join(format!("{name}.svg"));
    std::fs::write(&path, svg).expect("written");
    path
}
