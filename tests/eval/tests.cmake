# tests of eval/
