//! Lines: how a workload's figure changes with threads, followers or keys, both axes logarithmic.

use std::path::Path;

use kit::pin;
use plotters::{prelude::*, style::text_anchor::HPos};

use super::{FRAME, GRID, INK, OWN, PALE_INK, WIDTH, sheet, write};
use crate::{contenders::Kind, lists::Axis, page::thousands, session::Measured};

const HEIGHT: i32 = 520;
const LEFT: i32 = 76;
const RIGHT: i32 = WIDTH as i32 - 236;
const TOP: i32 = 76;
const BOTTOM: i32 = HEIGHT - 56;

/// Of peers, which are told apart by their labels more than by these.
const PEERS: [RGBColor; 10] = [
    RGBColor(0x1c, 0x5d, 0x99),
    RGBColor(0x2b, 0x8a, 0x3e),
    RGBColor(0x86, 0x2e, 0x9c),
    RGBColor(0x0b, 0x72, 0x85),
    RGBColor(0x7c, 0x5e, 0x10),
    RGBColor(0x5c, 0x5f, 0xc9),
    RGBColor(0xa6, 0x1e, 0x4d),
    RGBColor(0x5c, 0x8a, 0x0b),
    RGBColor(0x49, 0x50, 0x57),
    RGBColor(0x1f, 0x9d, 0x8b),
];
const FLOOR: RGBColor = RGBColor(0xa9, 0xb0, 0xb7);

struct Line {
    name: &'static str,
    kind: Kind,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

pub(super) fn draw(measured: &Measured, path: &Path) -> anyhow::Result<()> {
    let workload = &measured.workload;
    let axis = workload.axis.expect("lines are drawn along one");
    let below = format!(
        "ns per call, median, by {}; lower is faster; both axes are logarithmic",
        axis.name()
    );
    let area = sheet(path, HEIGHT as u32, workload.title, &below)?;
    let lines = lines(measured);

    let all = || lines.iter().flat_map(|line| &line.points);
    let least = all().map(|point| point.1).fold(f64::INFINITY, f64::min) * 0.85;
    let most = all().map(|point| point.1).fold(0.0, f64::max) * 1.15;
    let (first, last) =
        (workload.points[0].x as f64, workload.points.last().expect("some").x as f64);
    let x = |value: f64| LEFT + part(value, first, last, f64::from(RIGHT - LEFT));
    let y = |ns: f64| BOTTOM - part(ns, least, most, f64::from(BOTTOM - TOP));

    if axis == Axis::Threads && last > pin::cores() as f64 {
        let from = x(pin::cores() as f64);
        let beyond = [(from, TOP), (RIGHT, BOTTOM)];
        area.draw(&Rectangle::new(beyond, INK.mix(0.045).filled()))?;
        let text = format!("more than the {} cores", pin::cores());
        write(&area, &text, (from + 8, TOP + 10), 12, &PALE_INK, HPos::Left, false)?;
    }
    for ns in ticks(least, most) {
        area.draw(&PathElement::new([(LEFT, y(ns)), (RIGHT, y(ns))], GRID))?;
        write(&area, &thousands(ns), (LEFT - 8, y(ns)), 12, &PALE_INK, HPos::Right, false)?;
    }
    write(&area, "ns", (LEFT - 8, TOP - 10), 12, &PALE_INK, HPos::Right, false)?;
    for point in &workload.points {
        let at = x(point.x as f64);
        area.draw(&PathElement::new([(at, BOTTOM), (at, BOTTOM + 5)], FRAME))?;
        let text = thousands(point.x as f64);
        write(&area, &text, (at, BOTTOM + 16), 12, &PALE_INK, HPos::Center, false)?;
    }
    area.draw(&PathElement::new([(LEFT, BOTTOM), (RIGHT, BOTTOM)], FRAME))?;
    let middle = (LEFT + RIGHT) / 2;
    write(&area, axis.name(), (middle, BOTTOM + 38), 13, &PALE_INK, HPos::Center, false)?;

    // shardflight comes last, above all others.
    for line in lines.iter().rev() {
        let path: Vec<_> = line.points.iter().map(|&(at, ns)| (x(at), y(ns))).collect();
        let (width, radius) = if line.kind == Kind::Own { (4, 5) } else { (2, 3) };
        area.draw(&PathElement::new(path.clone(), line.colour.stroke_width(width)))?;
        for at in path {
            if line.kind == Kind::Floor {
                area.draw(&Circle::new(at, radius, super::PAPER.filled()))?;
                area.draw(&Circle::new(at, radius, line.colour.stroke_width(1)))?;
            } else {
                area.draw(&Circle::new(at, radius, line.colour.filled()))?;
            }
        }
    }
    labels(&area, &lines, y)?;
    area.present()?;
    Ok(())
}

/// shardflight first.
fn lines(measured: &Measured) -> Vec<Line> {
    let workload = &measured.workload;
    let mut colours = PEERS.iter().cycle();
    let entrants = workload.points[0].entrants.iter();
    let line = |entrant: &crate::contenders::Entrant| Line {
        name: entrant.name,
        kind: entrant.kind,
        colour: match entrant.kind {
            Kind::Own => OWN,
            Kind::Peer => *colours.next().expect("a cycle"),
            Kind::Floor => FLOOR,
        },
        points: workload
            .points
            .iter()
            .enumerate()
            .filter_map(|(at, point)| {
                let results = measured.results(at);
                let same = results.iter().find(|result| result.entrant.name == entrant.name)?;
                Some((point.x as f64, same.time.median))
            })
            .collect(),
    };
    entrants.map(line).collect()
}

/// How far a value is from `least` towards `most`, on paper.
fn part(value: f64, least: f64, most: f64, length: f64) -> i32 {
    ((value / least).ln() / (most / least).ln() * length) as i32
}

/// 1, 2 and 5 times the powers of ten.
fn ticks(least: f64, most: f64) -> impl Iterator<Item = f64> {
    (0..8)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
        .filter(move |tick| (least..=most).contains(tick))
}

/// Beside the ends of the lines, as far apart as they can be read.
fn labels(area: &super::Area<'_>, lines: &[Line], y: impl Fn(f64) -> i32) -> anyhow::Result<()> {
    const APART: i32 = 17;
    let mut ends: Vec<_> = lines
        .iter()
        .filter_map(|line| line.points.last().map(|&(_, ns)| (y(ns), ns, line)))
        .collect();
    ends.sort_by_key(|end| end.0);
    let mut places: Vec<i32> = Vec::new();
    for end in &ends {
        let above = places.last().map_or(TOP, |place| place + APART);
        places.push(end.0.max(above));
    }
    // What went below the axis pushes the others up again.
    let mut below = BOTTOM + APART;
    for place in places.iter_mut().rev() {
        *place = (*place).min(below - APART);
        below = *place;
    }
    for ((end, ns, line), place) in ends.into_iter().zip(places) {
        let link = [(RIGHT + 6, end), (RIGHT + 20, place), (RIGHT + 24, place)];
        area.draw(&PathElement::new(link, line.colour.mix(0.6)))?;
        let is_own = line.kind == Kind::Own;
        let text = format!("{}  {}", line.name, thousands(ns));
        let ink = if line.kind == Kind::Floor { PALE_INK } else { line.colour };
        write(area, &text, (RIGHT + 28, place), 13, &ink, HPos::Left, is_own)?;
    }
    Ok(())
}
