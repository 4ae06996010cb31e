//! The sidecar by itself, for trials by hand: `cargo run -p stheno-agent --example agent -- medusa.ini [address:port]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use stheno_agent::Config;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let path: PathBuf = arguments.next().unwrap_or_else(|| "/etc/medusa/medusa.ini".to_owned()).into();
    let listen: Option<SocketAddr> = arguments.next().map(|address| address.parse()).transpose()?;
    let config = Config::load(&path, |key| std::env::var(key).ok())?;
    let cancel = CancellationToken::new();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn({
        let cancel = cancel.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            cancel.cancel();
        }
    });
    stheno_agent::run(config, listen, Default::default(), cancel).await?;
    Ok(())
}
