//! What a call costs that can be counted rather than timed: instructions, locked instructions, and
//! cache lines that other threads write as well.
//!
//! `cargo bench --bench counts` prints the table. It needs valgrind; the figures repeat to the digit
//! with the same compiler. `cargo bench --bench counts -- --check` fails if a bound is exceeded, or if
//! there is no valgrind; `-- join` counts the calls with that in their name only, and none for a
//! workload of the other bench. `docs/scale.md` says what follows from the figures.

// Under loom there is nothing to count, and the dev-dependencies are left out.
#[cfg(all(not(loom), target_os = "linux"))]
mod calls;
#[cfg(all(not(loom), target_os = "linux"))]
mod table;

#[cfg(all(not(loom), target_os = "linux"))]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // This program again, under valgrind.
        ["--call", name, count] => calls::make(name, count.parse().expect("a number")),
        ["--call-from-two-threads", name, count] => {
            calls::make_from_two_threads(name, count.parse().expect("a number"));
        }
        // `cargo test --all-targets` runs benches without `--bench`: there is nothing to test here.
        _ if !arguments.contains(&"--bench") => {}
        _ => return table::print(&arguments),
    }
    ExitCode::SUCCESS
}

#[cfg(any(loom, not(target_os = "linux")))]
fn main() {}
