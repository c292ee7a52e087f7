{
  "targets": [
    {
      "target_name": "xdp",
      "sources": ["native/addon.cc", "native/bound.cc", "native/calls.cc", "native/descriptors.cc", "native/memory.cc", "native/watcher.cc"],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "cflags_cc": ["-std=c++17", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden"]
    }
  ]
}
