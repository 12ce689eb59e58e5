# tests of checkpoints/
adze_test(checkpoints/test_feature_file.c)
adze_test(checkpoints/test_hdf5_file.c)
adze_test(checkpoints/test_model_file.c)
adze_test(checkpoints/test_tensor_file.c)
adze_test(checkpoints/test_weights.c)
add_test(NAME checkpoints/test_adze_weights COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/checkpoints/test_adze_weights.sh
         ${CMAKE_BINARY_DIR}/bin WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(checkpoints/test_hdf5_file checkpoints/test_feature_file PROPERTIES
                     ENVIRONMENT LSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/lsan.supp)
