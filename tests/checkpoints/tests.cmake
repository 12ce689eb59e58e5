# tests of checkpoints/
