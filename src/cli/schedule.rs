//! `stheno schedule`: the times of a cron expression, by the code that starts backups.

use crate::audit::output::{Format, quietly, value};
use crate::runtime;
use chrono::SecondsFormat;
use std::io::Write as _;
use stheno_decide::cron::{Cron, Tz, zone};
use stheno_events::Time;

/// Cron expressions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  stheno schedule preview @daily --timezone Europe/Berlin")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// The next times of an expression, as a MedusaBackupSchedule has them
    Preview(Preview),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  stheno schedule preview '30 2 * * mon-fri' --timezone Europe/Berlin -n 3")]
struct Preview {
    /// Five fields, @daily and the like, or @every 6h; each behind CRON_TZ=<zone> or not
    #[arg(value_name = "EXPR", value_parser = Cron::parse)]
    cron: Cron,
    /// Where the expression names no zone: one of the IANA database
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone, env = "STHENO_TIMEZONE")]
    timezone: Tz,
    /// The times after this one (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", env = "STHENO_FROM")]
    from: Option<Time>,
    /// How many
    #[arg(short, long = "count", value_name = "NUMBER", default_value_t = 5, env = "STHENO_COUNT")]
    number: usize,
    /// How they are written
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT", env = "STHENO_OUTPUT")]
    output: Format,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let Verb::Preview(preview) = &args.verb;
    quietly(preview.run())
}

impl Preview {
    fn run(&self) -> anyhow::Result<()> {
        let from = self.from.unwrap_or_else(runtime::wall);
        let zone = self.cron.zone().unwrap_or(self.timezone);
        let times = self.cron.times_after(from, self.timezone).take(self.number).map(|time| time.with_timezone(&zone));
        let mut out = std::io::stdout().lock();
        if self.output != Format::Text {
            let times: Vec<String> = times.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)).collect();
            return value(&mut out, self.output, &times);
        }
        let mut times = times.peekable();
        if times.peek().is_none() && self.number > 0 {
            writeln!(out, "never")?;
        }
        for time in times {
            let written = time.to_rfc3339_opts(SecondsFormat::Secs, true);
            writeln!(out, "{written}  {}  {}", time.format("%a"), from_then((time.to_utc() - from).num_seconds()))?;
        }
        Ok(out.flush()?)
    }
}

/// A distance in the two largest units that people would name.
fn from_then(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("in {seconds} s"),
        (0, 0, _) => format!("in {minutes} min {} s", seconds % 60),
        (0, ..) => format!("in {hours} h {minutes} min"),
        _ => format!("in {days} d {hours} h"),
    }
}
