"""What the experiments share: data, records, checkpoints, devices and figures."""
