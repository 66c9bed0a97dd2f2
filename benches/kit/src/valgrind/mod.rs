//! Runs this program under valgrind's tools and reads what they have counted. The program makes so
//! many calls of a name when it is started with `--call NAME COUNT`.

mod code;

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    process::{self, Command, Stdio},
};

use self::code::Code;

/// What one call executes.
#[derive(Clone, Copy)]
pub struct Executed {
    pub instructions: f64,
    /// `None` where it is not known which they are.
    pub locked: Option<f64>,
}

/// What one call does to cache lines that another thread's calls write, too.
pub struct Shared {
    /// Those that it writes.
    pub written: f64,
    /// And of them those that all calls write.
    pub written_by_all: usize,
    /// Those that it reads only.
    pub read: f64,
}

pub fn is_there() -> bool {
    Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok()
}

/// The difference between two runs, so that start and end of the program cancel out.
pub fn executed(call: &str) -> io::Result<Executed> {
    const FEW: u64 = 1_000;
    const MANY: u64 = 2_000;
    let (few, many) = (total(call, FEW)?, total(call, MANY)?);
    let per_call = |few: u64, many: u64| (many - few) as f64 / (MANY - FEW) as f64;
    Ok(Executed {
        instructions: per_call(few.0, many.0),
        locked: few.1.zip(many.1).map(|(few, many)| per_call(few, many)),
    })
}

/// Instructions of a whole run, and the locked ones of them.
fn total(call: &str, count: u64) -> io::Result<(u64, Option<u64>)> {
    let out = scratch("callgrind");
    let out_option = format!("--callgrind-out-file={}", out.display());
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-instr=yes", "--dump-line=no"])
        .args(["--compress-pos=no", "--compress-strings=no", &out_option])
        .arg(env::current_exe()?)
        .args(["--call", call, &count.to_string()])
        .output()?;
    check(run.status.success(), &run.stderr)?;
    let profile = fs::read_to_string(&out)?;
    fs::remove_file(&out)?;

    let mut code: HashMap<&str, Code> = HashMap::new();
    let (mut object, mut is_inclusive) = ("", false);
    let (mut instructions, mut locked) = (0, 0);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("ob=") {
            object = name;
        } else if line.starts_with("calls=") {
            // The next line is what the callee took.
            is_inclusive = true;
        } else if line.starts_with("0x") {
            let mut numbers = line.split(' ');
            let (address, cost) = (numbers.next(), numbers.next_back());
            let address = address.and_then(|hex| u64::from_str_radix(&hex[2..], 16).ok());
            let cost: Option<u64> = cost.and_then(|cost| cost.parse().ok());
            let (Some(address), Some(cost)) = (address, cost) else { continue };
            if !is_inclusive {
                instructions += cost;
                let code = code.entry(object).or_insert_with(|| Code::of(object));
                if code.is_locked(address) {
                    locked += cost;
                }
            }
            is_inclusive = false;
        }
    }
    let is_readable = code.values().any(Code::is_readable);
    Ok((instructions, is_readable.then_some(locked)))
}

/// Lines of the caches of all machines that this is about.
const LINE: u64 = 64;

/// Looks at each load and store of calls made by one thread and then by another, with
/// `--call-from-two-threads NAME COUNT`: the program stores to a mark before each call and to another
/// after it, and prints their addresses.
pub fn shared(call: &str) -> io::Result<Shared> {
    const COUNT: usize = 2_000;
    let trace = scratch("lackey");
    let trace_option = format!("--log-file={}", trace.display());
    let run = Command::new("valgrind")
        .args(["--tool=lackey", "--trace-mem=yes", "--basic-counts=no", &trace_option])
        .arg(env::current_exe()?)
        .args(["--call-from-two-threads", call, &COUNT.to_string()])
        .output()?;
    check(run.status.success(), &run.stderr)?;
    let marks = String::from_utf8_lossy(&run.stdout);
    let mut marks = marks.trim().split(' ').map(|hex| u64::from_str_radix(&hex[2..], 16));
    let (Some(Ok(before)), Some(Ok(after))) = (marks.next(), marks.next()) else {
        return Err(io::Error::other("the traced program did not say where its marks are"));
    };

    let mut calls: Vec<Touched> = Vec::new();
    let mut is_inside = false;
    for line in BufReader::new(fs::File::open(&trace)?).lines() {
        let line = line?;
        let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
        let (Some(kind), Some(address)) = (words.next(), words.next()) else { continue };
        let (false, Ok(address)) = (kind == "I", u64::from_str_radix(address, 16)) else {
            continue;
        };
        let is_store = matches!(kind, "S" | "M");
        if is_store && address == before {
            is_inside = true;
            calls.push(Touched::default());
        } else if is_store && address == after {
            is_inside = false;
        } else if is_inside && let Some(call) = calls.last_mut() {
            let lines = if is_store { &mut call.written } else { &mut call.read };
            lines.insert(address / LINE);
        }
    }
    fs::remove_file(&trace)?;
    check(calls.len() == 2 * COUNT, b"calls are missing in the trace")?;

    let (one, other) = calls.split_at(COUNT);
    let by_all = one.iter().chain(other).map(|call| &call.written);
    let by_all = by_all.cloned().reduce(|a, b| &a & &b).unwrap_or_default();
    let by_one: HashSet<u64> = one.iter().flat_map(|call| &call.written).copied().collect();
    let count = |touched: fn(&Touched) -> &HashSet<u64>, written: bool| {
        let is_shared = |call: &Touched, line: &u64| {
            by_one.contains(line) && call.written.contains(line) == written
        };
        let sum: usize = other
            .iter()
            .map(|call| touched(call).iter().filter(|&line| is_shared(call, line)).count())
            .sum();
        sum as f64 / COUNT as f64
    };
    Ok(Shared {
        written: count(|call| &call.written, true),
        written_by_all: by_all.len(),
        read: count(|call| &call.read, false),
    })
}

/// The lines that a call touches.
#[derive(Default)]
struct Touched {
    written: HashSet<u64>,
    read: HashSet<u64>,
}

fn scratch(tool: &str) -> PathBuf {
    env::temp_dir().join(format!("shardflight-{}.{tool}", process::id()))
}

fn check(is_good: bool, complaint: &[u8]) -> io::Result<()> {
    match is_good {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(complaint).into_owned())),
    }
}
