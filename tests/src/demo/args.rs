//! Arguments: numbers and times behind flags, switches, and `--help`.

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// `--name N`, `--name 90s`, or `--name` alone.
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) range: RangeInclusive<u64>,
    pub(crate) value: u64,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Seconds,
    Switch,
}

impl Flag {
    pub(crate) fn new(name: &'static str, range: RangeInclusive<u64>, value: u64) -> Self {
        Flag { name, range, value, kind: Kind::Number }
    }

    /// `--seed N`; another one each time when it is not given.
    pub(crate) fn seed() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Flag::new("--seed", 0..=u64::MAX, u64::from(now.subsec_micros()))
    }

    /// A time such as `90s` or `1h`, in whole seconds.
    pub(crate) fn seconds(name: &'static str, range: RangeInclusive<u64>, value: u64) -> Self {
        Flag { name, range, value, kind: Kind::Seconds }
    }

    /// 1 if it is given, else 0.
    pub(crate) fn switch(name: &'static str) -> Self {
        Flag { name, range: 0..=1, value: 0, kind: Kind::Switch }
    }
}

/// Reads the process's arguments into `flags`.
///
/// # Errors
/// The code to exit with: 0 after `help` was asked for and printed, 2 after an argument that is not known.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "the text of a program for its user")]
pub(crate) fn parse<const N: usize>(help: &str, mut flags: [Flag; N]) -> Result<[u64; N], ExitCode> {
    match read(&mut std::env::args().skip(1), &mut flags) {
        Ok(Wanted::Run) => Ok(flags.map(|flag| flag.value)),
        Ok(Wanted::Help) => {
            print!("{help}");
            Err(ExitCode::SUCCESS)
        }
        Err(problem) => {
            eprintln!("{problem}; see --help");
            Err(ExitCode::from(2))
        }
    }
}

#[derive(Debug, PartialEq)]
enum Wanted {
    Run,
    Help,
}

fn read(args: &mut dyn Iterator<Item = String>, flags: &mut [Flag]) -> Result<Wanted, String> {
    while let Some(arg) = args.next() {
        if arg == "--help" || arg == "-h" {
            return Ok(Wanted::Help);
        }
        let (name, attached) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let flag = flags.iter_mut().find(|flag| flag.name == name).ok_or(format!("unknown argument {arg:?}"))?;
        if flag.kind == Kind::Switch && attached.is_none() {
            flag.value = 1;
            continue;
        }
        let what = if flag.kind == Kind::Seconds { "a time such as 90s or 1h" } else { "a number" };
        let value = attached.or_else(|| args.next()).ok_or(format!("{name} needs {what}"))?;
        let number = match flag.kind {
            Kind::Seconds => humantime::parse_duration(&value).ok().map(|time| time.as_secs()),
            Kind::Number | Kind::Switch => value.parse().ok(),
        };
        let number = number.filter(|number| flag.range.contains(number));
        let (min, max) = (flag.range.start(), flag.range.end());
        let unit = if flag.kind == Kind::Seconds { "s" } else { "" };
        flag.value = number.ok_or(format!("{name} takes {what}, from {min}{unit} to {max}{unit}, not {value:?}"))?;
    }
    Ok(Wanted::Run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<(Wanted, u64), String> {
        let mut flags = [Flag::new("--down", 1..=20, 4)];
        let wanted = read(&mut args.iter().map(|arg| (*arg).to_owned()), &mut flags)?;
        Ok((wanted, flags[0].value))
    }

    #[test]
    fn a_switch_takes_no_number() {
        let mut flags = [Flag::switch("--simulated"), Flag::new("--down", 1..=20, 4)];
        let args = ["--simulated", "--down", "7"].map(str::to_owned);
        assert_eq!(read(&mut args.into_iter(), &mut flags), Ok(Wanted::Run));
        assert_eq!(flags.map(|flag| flag.value), [1, 7]);
    }

    #[test]
    fn a_time_has_a_unit() {
        let read_time = |arg: &str| {
            let mut flags = [Flag::seconds("--time", 1..=86_400, 60)];
            read(&mut ["--time", arg].into_iter().map(str::to_owned), &mut flags).map(|_| flags[0].value)
        };
        assert_eq!(["90s", "2m", "1h 1s"].map(read_time), [Ok(90), Ok(120), Ok(3601)]);
        for bad in ["90", "0s", "25h", "soon"] {
            assert!(read_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_read_and_everything_else_is_refused() {
        assert_eq!(run(&[]), Ok((Wanted::Run, 4)));
        assert_eq!(run(&["--down", "7"]), Ok((Wanted::Run, 7)));
        assert_eq!(run(&["--down=20"]), Ok((Wanted::Run, 20)));
        assert_eq!(run(&["--help"]).map(|(wanted, _)| wanted), Ok(Wanted::Help));
        for bad in [&["--up", "7"][..], &["--down"], &["--down", "x"], &["--down=0"], &["--down", "21"], &["7"]] {
            assert!(run(bad).is_err(), "{bad:?}");
        }
    }
}
