//! Where and when it was measured.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// The date of today, in UTC.
pub(crate) fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(now.as_secs() / (24 * 60 * 60));
    format!("{year}-{month:02}-{day:02}")
}

/// Of a number of days after 1970-01-01. Counted in years that begin in March, so that the day that
/// may be missing is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    const FROM_YEAR_0: u64 = 719_468;
    const IN_400_YEARS: u64 = 146_097;
    let days = days + FROM_YEAR_0;
    let (era, day) = (days / IN_400_YEARS, days % IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + next, month, day)
}

/// As the system calls it.
pub(crate) fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |what: &str| {
        let line = info.lines().find(|line| line.starts_with(what))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let Some(name) = of("model name") else { return std::env::consts::ARCH.to_owned() };
    match (of("cpu family"), of("model\t")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        _ => name,
    }
}

/// The version of a package that was compiled in.
pub(crate) fn version(package: &str) -> Option<&'static str> {
    let lock = include_str!("../../../Cargo.lock");
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split_once('"').map(|(version, _)| version)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_around_leap_days() {
        assert_eq!(super::civil(0), (1970, 1, 1));
        assert_eq!(super::civil(11_016), (2000, 2, 29));
        assert_eq!(super::civil(20_819), (2027, 1, 1));
        assert_eq!(super::civil(47_540), (2100, 2, 28));
        assert_eq!(super::civil(47_541), (2100, 3, 1));
    }

    #[test]
    fn every_package_that_the_page_names_is_in_the_lock() {
        for contender in crate::contenders::PRESENTED {
            if let Some(package) = contender.package {
                assert!(super::version(package).is_some(), "{package}");
            }
        }
    }
}
