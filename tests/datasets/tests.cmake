# tests of datasets/
