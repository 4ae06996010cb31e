//! `stheno crds`: the custom resource definitions on stdout.

use std::io::Write as _;

/// The definitions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  stheno crds | kubectl apply --server-side -f -")]
pub(super) struct Args {
    /// How they are written
    #[arg(short, long, value_enum, default_value = "yaml", value_name = "FORMAT", env = "STHENO_OUTPUT")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A stream of documents
    Yaml,
    /// One List
    Json,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let text = match args.output {
        Output::Yaml => stheno_crds::all_crds_yaml()?,
        Output::Json => {
            let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": stheno_crds::all_crds() });
            format!("{}\n", serde_json::to_string_pretty(&list)?)
        }
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever read has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
