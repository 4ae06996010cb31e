//! What stands for the images of cass-operator's pods: the management API, the builder of configurations, the logger.

use crate::kubelet::Images;
use crate::provision::{self, Part, Parts};

/// A version of Cassandra that pods can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum Server {
    /// Cassandra 4.1.
    #[value(name = "4.1")]
    Cassandra41,
    /// Cassandra 5.0.
    #[value(name = "5.0")]
    Cassandra50,
}

impl Server {
    /// `spec.serverVersion` of a datacenter.
    pub fn version(self) -> &'static str {
        match self {
            Self::Cassandra41 => "4.1.9",
            Self::Cassandra50 => "5.0.6",
        }
    }

    pub(crate) fn parts(self) -> [Part; 2] {
        match self {
            Self::Cassandra41 => [Part::Cassandra41, Part::ManagementApi41],
            Self::Cassandra50 => [Part::Cassandra50, Part::ManagementApi50],
        }
    }
}

/// Small and quick to start: a JVM that waits for requests.
const SMALL: [&str; 4] = ["-Xmx48m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"];

/// The table of programs for the pods of these servers, before the rules that are there.
pub(super) fn images(images: Images, servers: &[Server], parts: &Parts) -> Result<Images, super::Error> {
    let mut images = images.container("server-config-init-base", "", &["true"]).container(
        "server-system-logger",
        "",
        &["sleep", "infinity"],
    );
    let home = provision::java_home("the pods of Cassandra")?;
    images = images.place("JAVA", &home.join("bin/java")).visible(home);
    for (index, server) in servers.iter().enumerate() {
        let [jars, api] = server.parts();
        let (jars, api) = (parts.path(jars)?, parts.path(api)?);
        let (jars_place, api_place) = (format!("JARS_{index}"), format!("MANAGEMENT_API_{index}"));
        images = images.place(&jars_place, jars).place(&api_place, api);
        images = images.visible(jars).visible(api.parent().unwrap_or(api));
        let class_path = format!("$({api_place}):$({jars_place})/*");
        let java = |defines: &[String], class: &str| {
            let fixed = ["$(JAVA)"].iter().chain(&SMALL).chain(&["-Dconfig=/config", "-Dstorage=/var/lib/cassandra"]);
            let mut command: Vec<String> = fixed.map(|word| (*word).to_owned()).collect();
            command.extend_from_slice(defines);
            command.extend(["-cp".to_owned(), class_path.clone(), class.to_owned()]);
            command
        };
        if index == 0 {
            // It needs nothing of a certain version, and its image says none.
            images = images.container("server-config-init", "", &words(&java(&[], "ConfigBuilder")));
        }
        let defines = [
            "-Dbind=$(STHENO_LOCAL_BIND)".to_owned(),
            "-Dhosts=$(STHENO_LOCAL_HOSTS)".to_owned(),
            format!("-Djars=$({jars_place})"),
            format!("-Dagent=$({api_place})"),
            format!("-Dcassandra.version={}", server.version()),
        ];
        let image = format!("cass-management-api:{}", server.version());
        images = images.container("cassandra", &image, &words(&java(&defines, "ManagementApi")));
    }
    Ok(images)
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}
