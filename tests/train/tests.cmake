# tests of train/
