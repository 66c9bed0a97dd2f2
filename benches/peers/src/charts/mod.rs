//! Charts: bars of who took part in a workload, lines of what its figure depends on.
//!
//! On a background of their own, as the pages they are shown on may be light or dark.

mod bars;
mod lines;

use std::{fs, path::Path};

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{contenders::Kind, session::Measured};

pub(crate) enum Form {
    Bars,
    Lines,
}

pub(crate) fn file(measured: &Measured, form: Form) -> String {
    let code = measured.workload.code;
    match form {
        Form::Bars => format!("{code}.svg"),
        Form::Lines => format!("{code}-lines.svg"),
    }
}

pub(crate) fn draw(measured: &[Measured], out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out)?;
    for measured in measured {
        bars::draw(measured, &out.join(file(measured, Form::Bars)))?;
        if measured.workload.axis.is_some() {
            lines::draw(measured, &out.join(file(measured, Form::Lines)))?;
        }
    }
    Ok(())
}

const WIDTH: u32 = 880;
const PAPER: RGBColor = RGBColor(0xfc, 0xfc, 0xfb);
const FRAME: RGBColor = RGBColor(0xd5, 0xd8, 0xdc);
const INK: RGBColor = RGBColor(0x1f, 0x26, 0x2e);
const PALE_INK: RGBColor = RGBColor(0x62, 0x6c, 0x77);
const GRID: RGBColor = RGBColor(0xe6, 0xe8, 0xeb);
const OWN: RGBColor = RGBColor(0xd9, 0x48, 0x0f);
const PEER: RGBColor = RGBColor(0x86, 0xa3, 0xbf);
const FLOOR: RGBColor = RGBColor(0xc3, 0xc8, 0xcd);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Own => OWN,
        Kind::Peer => PEER,
        Kind::Floor => FLOOR,
    }
}

/// The paper, with what it shows written at its top.
fn sheet<'a>(path: &'a Path, height: u32, title: &str, below: &str) -> anyhow::Result<Area<'a>> {
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&PAPER)?;
    let (right, bottom) = (WIDTH as i32 - 1, height as i32 - 1);
    area.draw(&Rectangle::new([(0, 0), (right, bottom)], FRAME))?;
    write(&area, title, (20, 26), 18, &INK, HPos::Left, true)?;
    write(&area, below, (20, 48), 13, &PALE_INK, HPos::Left, false)?;
    Ok(area)
}

fn write(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: &RGBColor,
    side: HPos,
    is_bold: bool,
) -> anyhow::Result<()> {
    let font = if is_bold { FontStyle::Bold } else { FontStyle::Normal };
    let style = TextStyle::from(("sans-serif", size, font).into_font())
        .color(colour)
        .pos(Pos::new(side, VPos::Center));
    // A page's marks of code are none in a chart.
    area.draw(&Text::new(text.replace('`', ""), at, style))?;
    Ok(())
}
