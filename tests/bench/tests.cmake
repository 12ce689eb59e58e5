# tests of bench/
adze_test(bench/test_table4.c)
target_sources(test_table4 PRIVATE ${CMAKE_SOURCE_DIR}/bench/reference_table4.c ${CMAKE_SOURCE_DIR}/bench/table4.c)
add_test(NAME bench/test_table4_program COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/bench/test_table4_program.sh
         $<TARGET_FILE_DIR:adze-bench> $<TARGET_FILE:make_weights>)
set_tests_properties(bench/test_table4_program PROPERTIES TIMEOUT 300)
