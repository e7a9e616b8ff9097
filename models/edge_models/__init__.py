"""The models: training, export, calibration and evaluation. Never imported by the running agent."""
