//! The options of `audit verify`, and how its answer reads.

use super::{Report, verify_with};
use crate::audit::cluster::ClusterArgs;
use crate::audit::output::{self, Format, Screen};
use crate::audit::source::Source;
use crate::audit::text::count;
use crate::audit::vouch::{self, Vouched, Vouchers};
use std::path::{Path, PathBuf};

/// The hash chain, gaps, times that run backwards, illegal transitions.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples: stheno audit verify --witness --own-namespace stheno-system\n          \
                        stheno audit verify --file monday.stheno --key checkpoints.pub --witness=witness.yaml")]
pub struct Args {
    /// File with the public Ed25519 key (64 hexadecimal digits, the operator's log shows it): every checkpoint must be
    /// signed by it.
    #[arg(long, value_name = "FILE", env = "STHENO_KEY")]
    key: Option<PathBuf>,
    /// Compare with the witness, ConfigMap stheno-log: of the cluster, or as kubectl wrote it to a file.
    #[arg(long, value_name = "FILE", env = "STHENO_WITNESS", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    witness: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl Args {
    async fn vouchers(&self) -> anyhow::Result<Vouchers> {
        let key = self.key.as_deref().map(vouch::key).transpose()?;
        let witness = match &self.witness {
            None => None,
            Some(file) if file.is_empty() => {
                let (client, namespace) = self.cluster.client().await?;
                Some(vouch::witness_of(client, &namespace).await?)
            }
            Some(file) => Some(vouch::witness_in(Path::new(file))?),
        };
        Ok(Vouchers { key, witness })
    }

    /// Verifies a whole log and says what it found.
    ///
    /// # Errors
    /// With the first fault, or when the log cannot be read.
    pub async fn run(&self, source: &Source, format: Format, screen: Screen<'_>) -> anyhow::Result<()> {
        let report = verify_with(source, self.vouchers().await?).await?;
        match (format, &report.fault) {
            (Format::Text, None) => {
                let Report { messages, events, last, aggregates, unknown, .. } = &report;
                let chains = count(aggregates, "aggregate");
                let (messages, events) = (count(messages, "message"), count(events, "event"));
                writeln!(screen.out, "The log is whole: {messages} up to {last} with {events} in {chains}.")?;
                if *unknown > 0 {
                    let unknown = count(unknown, "event");
                    writeln!(screen.out, "{unknown} of other versions of stheno cannot be judged by this one.")?;
                }
                vouched(screen.out, &report.vouched)?;
            }
            (Format::Text, Some(_)) => {}
            (Format::Json | Format::Yaml, _) => output::value(screen.out, format, &report)?,
        }
        screen.out.flush()?;
        report.fault.map_or(Ok(()), |fault| Err(anyhow::anyhow!("{fault}")))
    }
}

fn vouched(out: &mut dyn std::io::Write, vouched: &Vouched) -> std::io::Result<()> {
    let Vouched { checkpoints, checkpointed, signed, witnessed } = vouched;
    if *checkpoints > 0 {
        let (what, agree) = (count(checkpoints, "checkpoint"), if *checkpoints == 1 { "agrees" } else { "agree" });
        let signed = if *signed { ", signed by the key" } else { "; give --key to prove the signatures" };
        writeln!(out, "{what} {agree} with it up to message {checkpointed}{signed}.")?;
    }
    if *witnessed > 0 {
        writeln!(out, "The witness agrees with it up to message {witnessed}.")?;
    }
    Ok(())
}
