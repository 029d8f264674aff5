//! What a ModelDeployment decides, alone and in a simulated cluster.
