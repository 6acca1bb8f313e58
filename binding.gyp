# Delegates to CMakeLists.txt, the only build description, so that `node-gyp rebuild` and prebuildify work too.
{
  'targets': [
    {
      'target_name': 'alambic',
      'type': 'none',
      'actions': [
        {
          'action_name': 'build_with_cmake',
          'inputs': ['CMakeLists.txt'],
          # Never made: whether there is anything to do is for CMake to tell.
          'outputs': ['<(PRODUCT_DIR)/always'],
          'action': ['node', 'scripts/setup.js', '--only-addon', '--verbose'],
        },
      ],
    },
  ],
}
