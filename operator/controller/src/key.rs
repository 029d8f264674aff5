//! What is worked on: one object of one kind.

use std::fmt;

/// The kinds that have a pass of their own. The metric label of the same name is closed because this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Pipeline,
    Run,
    Template,
    Version,
    Deployment,
    Graph,
    /// The routers of a namespace. They are no object: the id names the namespace and their Deployment.
    Routing,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Pipeline, Self::Run, Self::Template, Self::Version, Self::Deployment, Self::Graph, Self::Routing];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pipeline => "MLPipeline",
            Self::Run => "MLPipelineRun",
            Self::Template => "StageTemplate",
            Self::Version => "ModelVersion",
            Self::Deployment => "ModelDeployment",
            Self::Graph => "InferenceGraph",
            Self::Routing => "Routing",
        }
    }

    /// Passes that may be under way at once.
    pub fn workers(self) -> usize {
        match self {
            Self::Run => 8,
            Self::Pipeline | Self::Deployment => 4,
            Self::Template | Self::Version | Self::Graph | Self::Routing => 2,
        }
    }
}

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub namespace: String,
    pub name: String,
}

impl Id {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
