# tests of train/
add_test(NAME train/test_adze COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/train/test_adze.sh $<TARGET_FILE:adze>)
adze_test(train/test_optimizer.c)
adze_test(train/test_schedule.c)
adze_test(train/test_event_file.c)
adze_test(train/test_train_log.c)
adze_test(train/test_train_state.c)

# Whole programs on a made-up data set.
add_executable(make_weights train/make_weights.c golden/case_tensor.c)
target_link_libraries(make_weights PRIVATE adze_static)
set_target_properties(make_weights PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
foreach(name programs bad_input interrupt disk methods precision textures)
  add_test(NAME train/test_${name} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/train/test_${name}.sh
           $<TARGET_FILE_DIR:adze-train> $<TARGET_FILE:make_weights>)
  set_tests_properties(train/test_${name} PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
endforeach()

# adze-train with a method that is small enough to be stopped and resumed a hundred times.
add_executable(tiny_train train/tiny_method.c ../train/adze_train.c ../train/gradient_run.c ../train/job_queue.c
               ../train/ranks.c ../train/run_record.c ../train/textures.c ../train/trainer.c ../train/weights_path.c)
target_link_libraries(tiny_train PRIVATE adze_program_parts adze_static)
set_target_properties(tiny_train PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_dependencies(tiny_train adze_cusim) # test_ranks
foreach(name cache resume jobs ranks)
  add_test(NAME train/test_${name} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/train/test_${name}.sh
           $<TARGET_FILE_DIR:adze-train> $<TARGET_FILE:make_weights> $<TARGET_FILE:tiny_train>)
  set_tests_properties(train/test_${name} PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
endforeach()
add_test(NAME train/test_doctor COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/train/test_doctor.sh $<TARGET_FILE_DIR:adze-doctor>)
