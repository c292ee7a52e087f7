// Descriptors that a thread opened: when a worker thread ends, whatever way, those that it has not closed are closed.
// At the end of the main thread, which is that of the process, the kernel does so.
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>
#include <unordered_map>
#include <vector>

#include "addon.h"

namespace xdp {
namespace {

// Which worker's environment opened a descriptor, over all threads: any of them may close it.
std::mutex lock;
std::unordered_map<int, napi_env> owners;

bool isMainThread() { return syscall(SYS_gettid) == getpid(); }

// Hooks run before the environment frees its memory: mappings of these descriptors go right after.
void closeAllOf(void* data) {
  napi_env env = static_cast<napi_env>(data);
  std::vector<int> left;
  {
    std::lock_guard<std::mutex> guard(lock);
    for (auto entry = owners.begin(); entry != owners.end();) {
      if (entry->second == env) {
        left.push_back(entry->first);
        entry = owners.erase(entry);
      } else {
        ++entry;
      }
    }
  }
  for (int fd : left) close(fd);
}

}  // namespace

void closeWithThread(napi_env env, int fd) {
  if (fd < 0 || isMainThread()) return;
  std::lock_guard<std::mutex> guard(lock);
  owners[fd] = env;
}

int closeNow(int fd) {
  {
    // First out of the table: once closed, the number may be another thread's.
    std::lock_guard<std::mutex> guard(lock);
    owners.erase(fd);
  }
  return close(fd);
}

void watchThreadEnd(napi_env env) {
  if (!isMainThread()) napi_add_env_cleanup_hook(env, closeAllOf, env);
}

}  // namespace xdp
