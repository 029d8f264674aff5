//! The custom resources: one file a kind, one a shared type. Types and their schemas only; what may stand together
//! across fields is in CEL rules beside the type, what CEL cannot see is in `pipeline::validate` and its like.

mod approve;
mod archive;
mod cache;
mod conditions;
mod crds;
mod data_trigger;
mod for_each;
mod gateway;
mod inference_graph;
mod live;
mod locks;
mod ml_pipeline;
mod ml_pipeline_run;
mod model_deployment;
mod model_version;
mod monitoring;
mod nested;
mod param;
mod payload_log;
mod pipeline_inputs;
mod pipeline_trigger;
mod pod_settings;
mod prometheus;
mod rollout;
mod routing;
mod schema;
mod security;
mod server;
mod stage;
mod stage_template;
mod store;
mod stream;
mod table;
mod triggers;

pub use approve::{Approval, ApprovalStatus, Approve, Decision};
pub use archive::{Archive, ArchiveError, ArchiveStatus, Artifacts, RemovedArtifacts};
pub use cache::{Cache, CacheMode, CacheOrigin, CacheStatus, RunCache, RunCacheMode};
pub use conditions::{Condition, ConditionStatus, set_condition};
pub use crds::all_crds;
pub use data_trigger::{DataError, DataTrigger, DataTriggerStatus};
pub use for_each::{ForEach, ItemRange};
pub use gateway::{GatewayRef, GatewayRoute, GatewayStatus, Provider};
pub use inference_graph::{
    Dependency, EnsembleAnswer, EnsembleStep, GraphEnsemble, GraphModelStatus, GraphNode, GraphSequence, GraphSplitter,
    GraphSwitch, GraphTarget, InferenceGraph, InferenceGraphSpec, InferenceGraphStatus, SequenceStep, SplitterStep,
    StepInput, SwitchStep,
};
pub use live::{LiveMetrics, Report};
pub(crate) use locks::bounds;
pub use locks::{Lock, LocksStatus};
pub use ml_pipeline::{
    Concurrency, ConcurrencyPolicy, Defaults, History, MLPipeline, MLPipelineSpec, MLPipelineStatus, RunNumbers,
};
pub use ml_pipeline_run::{
    AgentImage, Cancel, ItemsStatus, JobRef, MLPipelineRun, MLPipelineRunSpec, MLPipelineRunStatus, OutputStatus,
    PipelineRef, ResolvedInput, RetryFrom, RunCode, RunRef, RunTrigger, StageState, StageStatus, StageUsage,
};
pub use model_deployment::{
    Address, CachedModel, DeployedModel, ModelCache, ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus,
    Percentile, RevisionStatus, Scale, ScaleMetric, ServedArtifact,
};
pub use model_version::{
    Dataset, Lineage, ModelArtifact, ModelRead, ModelVersion, ModelVersionSpec, ModelVersionStatus,
};
pub use monitoring::{Drift, DriftMethod, DriftStatus, FeatureDrift, Monitoring, PredictionDrift};
pub use nested::{NestedOutput, NestedPipeline};
pub use param::{ParamSpec, ParamType, Value};
pub use payload_log::{LogMode, LogSink, LogTable, PayloadLog, PayloadLogStatus};
pub use pipeline_inputs::{AddressInput, PipelineInput, RunInput};
pub use pipeline_trigger::{EndedRun, PipelineTrigger, PipelineTriggerStatus, UpstreamOutcome};
pub use pod_settings::{
    AgentPath, Container, EnvValue, KeyRef, PodSettings, ResourceClaim, Resources, TopologySpread, Volume, VolumeClaim,
    VolumeKeys, VolumeMemory,
};
pub use prometheus::PrometheusQuery;
pub use rollout::{
    Analysis, AnalysisMetric, AnalysisStatus, OnRolloutFailure, Rollout, RolloutAction, RolloutControl, RolloutMark,
    RolloutOutcome, RolloutRecord, RolloutStatus, RolloutStep, RolloutStrategy, Verdict,
};
pub use routing::{HeaderRoute, RequestQueue, RouteTo, Routing, StickyHeader};
pub use security::{Auth, Jwks, JwksKey, JwtRules, KeySecret, RateLimit, RatePer, Security, TlsSecret};
pub use server::{Batching, ReadyProbe, Server, ServerContainer, ServerProtocol};
pub(crate) use stage::is_stop;
pub use stage::{
    ArtifactType, Backoff, Deploy, Gate, Input, InputDefault, InputMode, Keep, MemoryGrowth, ModelInput, OnFailure,
    Otherwise, Output, Register, Retry, Stage, UriAccess, WaitFor,
};
pub use stage_template::{Described, StageTemplate, StageTemplateSpec, TemplateInput, TemplateStatus};
pub use store::{AzureStore, GcsStore, PvcStore, S3Store, SecretName, Store, StoreAccess};
pub use stream::{KafkaSasl, KafkaStream, KafkaTls, SaslMechanism, Stream, StreamStart, StreamStatus};
pub use table::TableInput;
pub use triggers::{
    Backfill, BackfillStatus, Missed, ModelTrigger, ModelTriggerStatus, Schedule, ScheduleStatus, Triggers,
    TriggersStatus,
};

/// The API group of all kinds.
pub const GROUP: &str = "millrace.dev";
/// The only version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of all kinds.
pub const API_VERSION: &str = "millrace.dev/v1alpha1";
