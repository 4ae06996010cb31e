//! The parts: versions, where each comes from, how long its build usually takes.

/// A program or library that the ground needs and that is built once for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Part {
    /// The store of the API server.
    Etcd,
    /// kube-apiserver.
    #[value(name = "kube-apiserver")]
    ApiServer,
    /// kube-controller-manager.
    #[value(name = "kube-controller-manager")]
    ControllerManager,
    /// kubectl; the one on PATH when it is not too old.
    Kubectl,
    /// The NATS server.
    NatsServer,
    /// An S3 server (versitygw) over a folder.
    #[value(name = "versitygw")]
    S3,
    /// The jars of Apache Cassandra 4.1.
    #[value(name = "cassandra")]
    Cassandra41,
    /// The jars of Apache Cassandra 5.0.
    #[value(name = "cassandra-5.0")]
    Cassandra50,
    /// cass-operator as it is, with its CustomResourceDefinitions.
    CassOperator,
    /// cass-operator with its fixed waits cut to a second, for tests that are not about order and races.
    HurriedCassOperator,
    /// A stand-in for the management API of Cassandra's images, for Cassandra 4.1.
    #[value(name = "management-api")]
    ManagementApi41,
    /// The same for Cassandra 5.0.
    #[value(name = "management-api-5.0")]
    ManagementApi50,
}

/// How a part is made.
pub(crate) enum Source {
    /// `go build` of one package of the module that these two files lock.
    Go { go_mod: &'static str, go_sum: &'static str, package: &'static str, ldflags: &'static str },
    /// Maven copies what this file depends on.
    Maven { pom: &'static str },
    /// `build.sh` of these files makes `out/` with Go.
    GoScript { files: Files, hurried: bool },
    /// `build.sh` of these files makes `out/` with the JDK and the jars of another part.
    JavaScript { files: Files, jars: Part },
}

/// Names and contents.
pub(crate) type Files = &'static [(&'static str, &'static str)];

/// Everything about making a part.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The file that must be in the cache entry: the program, or for a folder of jars the one that matters.
    pub(crate) file: &'static str,
    /// On two cores, with nothing downloaded yet.
    pub(crate) usually: &'static str,
    pub(crate) source: Source,
}

const KUBERNETES_MOD: &str = include_str!("parts/kubernetes/go.mod");
const KUBERNETES_SUM: &str = include_str!("parts/kubernetes/go.sum");
// Without a version kubectl refuses to speak to the server.
const KUBERNETES_LDFLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";

const CASS_OPERATOR: Files = &[
    ("go.mod", include_str!("parts/cass-operator/go.mod")),
    ("go.sum", include_str!("parts/cass-operator/go.sum")),
    ("build.sh", include_str!("parts/cass-operator/build.sh")),
];

const MANAGEMENT_API: Files = &[
    ("Agent.java", include_str!("parts/management-api/Agent.java")),
    ("CassandraProcess.java", include_str!("parts/management-api/CassandraProcess.java")),
    ("AllSeeds.java", include_str!("parts/management-api/AllSeeds.java")),
    ("ConfigBuilder.java", include_str!("parts/management-api/ConfigBuilder.java")),
    ("Internals.java", include_str!("parts/management-api/Internals.java")),
    ("ManagementApi.java", include_str!("parts/management-api/ManagementApi.java")),
    ("build.sh", include_str!("parts/management-api/build.sh")),
    ("jvm17.options", include_str!("parts/management-api/jvm17.options")),
    ("console-logback.xml", include_str!("parts/cassandra41/logback.xml")),
];

impl Part {
    /// Every part, the quick ones first.
    pub const ALL: [Self; 12] = [
        Self::NatsServer,
        Self::Cassandra41,
        Self::Cassandra50,
        Self::ManagementApi41,
        Self::ManagementApi50,
        Self::Etcd,
        Self::S3,
        Self::Kubectl,
        Self::ControllerManager,
        Self::CassOperator,
        Self::HurriedCassOperator,
        Self::ApiServer,
    ];

    pub(crate) fn recipe(self) -> Recipe {
        match self {
            Self::Etcd => Recipe {
                name: "etcd",
                version: "3.6.8",
                file: "etcd",
                usually: "half a minute",
                source: Source::Go {
                    go_mod: include_str!("parts/etcd/go.mod"),
                    go_sum: include_str!("parts/etcd/go.sum"),
                    package: "go.etcd.io/etcd/server/v3",
                    ldflags: "-s -w",
                },
            },
            Self::ApiServer => Recipe {
                name: "kube-apiserver",
                version: "1.36.3",
                file: "kube-apiserver",
                usually: "4 to 6 minutes",
                source: Source::Go {
                    go_mod: KUBERNETES_MOD,
                    go_sum: KUBERNETES_SUM,
                    package: "k8s.io/kubernetes/cmd/kube-apiserver",
                    ldflags: KUBERNETES_LDFLAGS,
                },
            },
            Self::ControllerManager => Recipe {
                name: "kube-controller-manager",
                version: "1.36.3",
                file: "kube-controller-manager",
                usually: "a minute after kube-apiserver",
                source: Source::Go {
                    go_mod: KUBERNETES_MOD,
                    go_sum: KUBERNETES_SUM,
                    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
                    ldflags: KUBERNETES_LDFLAGS,
                },
            },
            Self::Kubectl => Recipe {
                name: "kubectl",
                version: "1.36.3",
                file: "kubectl",
                usually: "a minute",
                source: Source::Go {
                    go_mod: KUBERNETES_MOD,
                    go_sum: KUBERNETES_SUM,
                    package: "k8s.io/kubernetes/cmd/kubectl",
                    ldflags: KUBERNETES_LDFLAGS,
                },
            },
            Self::NatsServer => Recipe {
                name: "nats-server",
                version: "2.15.1",
                file: "nats-server",
                usually: "half a minute",
                source: Source::Go {
                    go_mod: include_str!("parts/nats/go.mod"),
                    go_sum: include_str!("parts/nats/go.sum"),
                    package: "github.com/nats-io/nats-server/v2",
                    ldflags: "-s -w",
                },
            },
            Self::S3 => Recipe {
                name: "versitygw",
                version: "1.8.0",
                file: "versitygw",
                usually: "a minute and a half",
                source: Source::Go {
                    go_mod: include_str!("parts/versitygw/go.mod"),
                    go_sum: include_str!("parts/versitygw/go.sum"),
                    package: "github.com/versity/versitygw/cmd/versitygw",
                    ldflags: "-s -w",
                },
            },
            Self::Cassandra41 => Recipe {
                name: "cassandra",
                version: "4.1.9",
                file: "cassandra-all-4.1.9.jar",
                usually: "ten seconds",
                source: Source::Maven { pom: include_str!("parts/cassandra41/pom.xml") },
            },
            Self::Cassandra50 => Recipe {
                name: "cassandra",
                version: "5.0.6",
                file: "cassandra-all-5.0.6.jar",
                usually: "ten seconds",
                source: Source::Maven { pom: include_str!("parts/cassandra50/pom.xml") },
            },
            Self::CassOperator => Recipe {
                name: "cass-operator",
                version: "1.31.0",
                file: "cass-operator",
                usually: "3 minutes",
                source: Source::GoScript { files: CASS_OPERATOR, hurried: false },
            },
            Self::HurriedCassOperator => Recipe {
                name: "hurried-cass-operator",
                version: "1.31.0",
                file: "cass-operator",
                usually: "half a minute after cass-operator",
                source: Source::GoScript { files: CASS_OPERATOR, hurried: true },
            },
            Self::ManagementApi41 => Recipe {
                name: "management-api",
                version: "4.1.9",
                file: "management-api.jar",
                usually: "ten seconds",
                source: Source::JavaScript { files: MANAGEMENT_API, jars: Self::Cassandra41 },
            },
            Self::ManagementApi50 => Recipe {
                name: "management-api",
                version: "5.0.6",
                file: "management-api.jar",
                usually: "ten seconds",
                source: Source::JavaScript { files: MANAGEMENT_API, jars: Self::Cassandra50 },
            },
        }
    }
}
