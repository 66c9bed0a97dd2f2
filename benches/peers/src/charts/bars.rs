//! Bars, shortest first, floors apart from those that they are floors of.

use std::path::Path;

use plotters::{prelude::*, style::text_anchor::HPos};

use super::{FRAME, GRID, INK, OWN, PALE_INK, PAPER, WIDTH, colour, sheet, write};
use crate::{
    contenders::Kind,
    page::thousands,
    session::{Measured, Result},
};

const LEFT: i32 = 250;
const RIGHT: i32 = WIDTH as i32 - 150;
const TOP: i32 = 74;
const ROW: i32 = 27;
const GAP: i32 = 34;
const BELOW: i32 = 30;

pub(super) fn draw(measured: &Measured, path: &Path) -> anyhow::Result<()> {
    let workload = &measured.workload;
    let results = measured.results(workload.shown);
    let (floors, others): (Vec<_>, Vec<_>) =
        results.into_iter().partition(|result| result.entrant.kind == Kind::Floor);
    let height = TOP + ROW * (floors.len() + others.len()) as i32 + GAP + BELOW;
    let at = workload.axis.map_or_else(String::new, |axis| {
        format!("{}; ", axis.at(workload.points[workload.shown].x))
    });
    let below = format!(
        "{at}ns per call, median and p10 to p90; shorter is faster; in brackets: ratio to shardflight"
    );
    let area = sheet(path, height as u32, workload.title, &below)?;

    let most = scale_end(&others, &floors);
    let x = |ns: f64| LEFT + (f64::from(RIGHT - LEFT) * ns / most) as i32;
    let step = step(most);
    for ns in (0..).map(|i| f64::from(i) * step).take_while(|&ns| ns <= most) {
        let line = [(x(ns), TOP - 4), (x(ns), height - BELOW)];
        area.draw(&PathElement::new(line, GRID))?;
        let at = (x(ns), height - BELOW + 12);
        write(&area, &thousands(ns), at, 11, &PALE_INK, HPos::Center, false)?;
    }
    let mut y = TOP;
    for result in &others {
        bar(&area, result, y, most, &x)?;
        y += ROW;
    }
    if !floors.is_empty() {
        let middle = y + GAP / 2;
        area.draw(&PathElement::new([(20, middle), (LEFT - 70, middle)], FRAME))?;
        write(&area, "floors", (LEFT - 12, middle), 12, &PALE_INK, HPos::Right, false)?;
        area.draw(&PathElement::new([(LEFT, middle), (WIDTH as i32 - 20, middle)], FRAME))?;
        y += GAP;
    }
    for result in &floors {
        bar(&area, result, y, most, &x)?;
        y += ROW;
    }
    area.present()?;
    Ok(())
}

/// One contender that takes many times as long as the others would leave them no room: its bar is
/// cut off.
fn scale_end(others: &[Result<'_>], floors: &[Result<'_>]) -> f64 {
    let median = others[others.len() / 2].time.median;
    let own = others.iter().find(|result| result.entrant.kind == Kind::Own);
    let own = own.map_or(0.0, |result| result.time.median);
    let longest = others.iter().chain(floors).map(|result| result.time.median).fold(0.0, f64::max);
    longest.min((2.5 * median).max(1.1 * own)) * 1.02
}

/// Of the grid: 1, 2 or 5 times a power of ten, for four to nine lines.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 4.0).log10().floor());
    let lines = most / 4.0 / power;
    power
        * if lines >= 5.0 {
            5.0
        } else if lines >= 2.0 {
            2.0
        } else {
            1.0
        }
}

fn bar(
    area: &super::Area<'_>,
    result: &Result<'_>,
    top: i32,
    most: f64,
    x: &impl Fn(f64) -> i32,
) -> anyhow::Result<()> {
    let kind = result.entrant.kind;
    let is_own = kind == Kind::Own;
    let (middle, bottom) = (top + ROW / 2, top + ROW - 5);
    let time = result.time.median;
    let is_cut = time > most;
    let end = x(time.min(most));
    let ink = match kind {
        Kind::Own => &OWN,
        Kind::Peer => &INK,
        Kind::Floor => &PALE_INK,
    };
    write(area, result.entrant.name, (LEFT - 12, middle), 14, ink, HPos::Right, is_own)?;
    let body = [(LEFT, top + 5), (end.max(LEFT + 1), bottom)];
    area.draw(&Rectangle::new(body, colour(kind).filled()))?;
    let mut label = end + 8;
    if is_cut {
        for left in [end - 26, end - 18] {
            let torn = [(left, bottom + 3), (left + 6, top + 2)];
            area.draw(&PathElement::new(torn, PAPER.stroke_width(4)))?;
        }
    } else {
        let (low, high) = (x(result.time.low), x(result.time.high.min(most)));
        area.draw(&PathElement::new([(low, middle), (high, middle)], INK.mix(0.55)))?;
        for end in [low, high] {
            area.draw(&PathElement::new([(end, middle - 3), (end, middle + 3)], INK.mix(0.55)))?;
        }
        label = label.max(high + 8);
    }
    let mut text = format!("{} ns", thousands(time));
    if !is_own {
        text += &format!("  ({})", crate::page::ratio(result.ratio.median));
    }
    write(area, &text, (label, middle), 13, ink, HPos::Left, is_own)
}
