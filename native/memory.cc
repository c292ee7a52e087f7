// Mapped memory with one owner: an ArrayBuffer that is detached before its pages go away.
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>
#include <unordered_map>

#include "addon.h"

namespace xdp {
namespace {

// Transparent huge pages of this size begin at its multiples (Documentation/admin-guide/mm/transhuge.rst).
constexpr size_t kHugePage = 2 << 20;
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

struct Region {
  void* address;
  size_t length;
  bool mapped;
};

// Regions by address, over all threads. A region leaves the table when it is unmapped, so an address that
// the kernel hands out again never meets the finalizer of its former owner.
std::mutex lock;
std::unordered_map<void*, Region*> regions;

// Takes the region out of the table; true when the caller is the one who must unmap it.
bool disown(Region* region) {
  std::lock_guard<std::mutex> guard(lock);
  if (!region->mapped) return false;
  region->mapped = false;
  regions.erase(region->address);
  return true;
}

// Gives the mapping of `length` bytes an owner: an ArrayBuffer.
Napi::Value ownMapping(Napi::Env env, void* address, size_t length) {
  Region* region = new Region{address, length, true};
  {
    std::lock_guard<std::mutex> guard(lock);
    regions[address] = region;
  }
  return Napi::ArrayBuffer::New(
      env, address, length,
      [](Napi::Env, void*, Region* dying) {
        if (disown(dying)) munmap(dying->address, dying->length);
        delete dying;
      },
      region);
}

// mmap(length, protection, flags, fd, offset): an ArrayBuffer, or -errno
Napi::Value callMmap(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  size_t length = static_cast<size_t>(info[0].As<Napi::Number>().DoubleValue());
  int protection = info[1].As<Napi::Number>().Int32Value();
  int flags = info[2].As<Napi::Number>().Int32Value();
  int fd = info[3].As<Napi::Number>().Int32Value();
  // Ring offsets go past 32 bits; as doubles they are exact to 2^53.
  off_t offset = static_cast<off_t>(info[4].As<Napi::Number>().DoubleValue());
  void* address = mmap(nullptr, length, protection, flags, fd, offset);
  if (address == MAP_FAILED) return Napi::Number::New(env, -errno);
  return ownMapping(env, address, length);
}

// Maps `length` bytes from a multiple of `alignment` on: what lies before and behind is given back.
void* mapAligned(size_t length, size_t alignment) {
  void* all = mmap(nullptr, length + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) return MAP_FAILED;
  uint8_t* start = static_cast<uint8_t*>(all);
  size_t before = (alignment - reinterpret_cast<uintptr_t>(start) % alignment) % alignment;
  if (before > 0) munmap(start, before);
  munmap(start + before + length, alignment - before);
  return start + before;
}

// mmapAnonymous(length), whole pages of this process alone: an ArrayBuffer, or -errno
Napi::Value callMmapAnonymous(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  size_t length = static_cast<size_t>(info[0].As<Napi::Number>().DoubleValue());
  void* address = mapAligned(length, kHugePage);
  if (address == MAP_FAILED) return Napi::Number::New(env, -errno);
  // A kernel that has no huge pages to give takes ordinary ones.
  madvise(address, length, MADV_HUGEPAGE);
  // A child would make fork(2) copy every page that is pinned.
  madvise(address, length, MADV_DONTFORK);
  // Before kernel 5.14 pages come as they are touched.
  if (madvise(address, length, MADV_POPULATE_WRITE) < 0 && errno != EINVAL) {
    int error = errno;
    munmap(address, length);
    return Napi::Number::New(env, -error);
  }
  return ownMapping(env, address, length);
}

// munmap(ArrayBuffer): detaches it, then unmaps. -EINVAL when it is no mapping of ours, or gone already.
Napi::Value callMunmap(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::ArrayBuffer buffer = info[0].As<Napi::ArrayBuffer>();
  void* address = buffer.Data();
  size_t length = 0;
  {
    std::lock_guard<std::mutex> guard(lock);
    auto found = address ? regions.find(address) : regions.end();
    if (found == regions.end()) return Napi::Number::New(env, -EINVAL);
    // Marked while the lock is held: the finalizer that detaching may trigger finds nothing left to do.
    found->second->mapped = false;
    length = found->second->length;
    regions.erase(found);
  }
  buffer.Detach();
  return Napi::Number::New(env, munmap(address, length) < 0 ? -errno : 0);
}

// memfd(name, flags): a descriptor, or -errno
Napi::Value callMemfd(const Napi::CallbackInfo& info) {
  std::string name = info[0].As<Napi::String>().Utf8Value();
  long fd = syscall(SYS_memfd_create, name.c_str(), info[1].As<Napi::Number>().Uint32Value());
  if (fd < 0) return Napi::Number::New(info.Env(), -errno);
  closeWithThread(info.Env(), static_cast<int>(fd));
  return Napi::Number::New(info.Env(), static_cast<double>(fd));
}

// ftruncate(fd, length)
Napi::Value callFtruncate(const Napi::CallbackInfo& info) {
  int result = ftruncate(info[0].As<Napi::Number>().Int32Value(),
                         static_cast<off_t>(info[1].As<Napi::Number>().DoubleValue()));
  return Napi::Number::New(info.Env(), result < 0 ? -errno : 0);
}

// Packets lie far from each other and another processor wrote them: the first lines of the next ones are on their way
// while one is copied. Where a long packet goes on, the processor fetches ahead by itself.
constexpr uint32_t kAhead = 2;
constexpr uint32_t kFarAhead = 16;
constexpr size_t kShort = 256;
constexpr size_t kLine = 64;
constexpr size_t kMostAhead = 12 * kLine;

inline void fetchAhead(const uint8_t* source, size_t size, size_t from, size_t all) {
  size_t length = all < kMostAhead ? all : kMostAhead;
  if (from + length > size) return;
  for (size_t at = 0; at < length; at += kLine) __builtin_prefetch(source + from + at);
}

// The elements behind a typed array, and how many there are: none when it is detached. Without a wrapper.
template <typename Element>
struct Elements {
  Element* data;
  size_t length;
};

template <typename Element>
Elements<Element> elementsOf(napi_env env, napi_value array) {
  void* data = nullptr;
  size_t length = 0;
  napi_get_typedarray_info(env, array, nullptr, &length, &data, nullptr, nullptr);
  return {static_cast<Element*>(data), data == nullptr ? 0 : length};
}

uint32_t numberOf(napi_env env, napi_value number) {
  uint32_t value = 0;
  napi_get_value_uint32(env, number, &value);
  return value;
}

// gather(target, source, moves, count): 0, or -EFAULT for what does not lie in both. A move is three words: to, from, length.
// Called once a batch, so the arguments are read without wrappers.
napi_value callGather(napi_env env, napi_callback_info info) {
  size_t given = 4;
  napi_value arguments[4];
  napi_get_cb_info(env, info, &given, arguments, nullptr, nullptr);
  auto [target, room] = elementsOf<uint8_t>(env, arguments[0]);
  auto [source, size] = elementsOf<const uint8_t>(env, arguments[1]);
  auto [move, words] = elementsOf<const uint32_t>(env, arguments[2]);
  uint32_t count = numberOf(env, arguments[3]);
  int32_t result = static_cast<size_t>(count) * 3 <= words ? 0 : -EFAULT;
  for (uint32_t i = 0; i < count && result == 0; i++, move += 3) {
    size_t to = move[0], from = move[1], length = move[2];
    uint32_t ahead = length > kShort ? kAhead : kFarAhead;
    if (i + ahead < count) fetchAhead(source, size, move[3 * ahead + 1], move[3 * ahead + 2]);
    if (to + length > room || from + length > size) {
      result = -EFAULT;
    } else if (length == sizeof(uint64_t)) {
      memcpy(target + to, source + from, sizeof(uint64_t));
    } else if (length > 0) {
      memcpy(target + to, source + from, length);
    }
  }
  napi_value answer = nullptr;
  napi_create_int32(env, result, &answer);
  return answer;
}

// gatherBefore(rows, stride, count, source, words, at): 0, or -EFAULT. A row is `stride` words and begins with an offset in
// `source`: the words in front of it are copied into the row, from its word `at` on. What the offset is of is on its way to the
// processor then.
napi_value callGatherBefore(napi_env env, napi_callback_info info) {
  size_t given = 6;
  napi_value arguments[6];
  napi_get_cb_info(env, info, &given, arguments, nullptr, nullptr);
  auto [row, all] = elementsOf<uint32_t>(env, arguments[0]);
  auto [source, size] = elementsOf<const uint8_t>(env, arguments[3]);
  uint32_t stride = numberOf(env, arguments[1]), count = numberOf(env, arguments[2]);
  uint32_t words = numberOf(env, arguments[4]), at = numberOf(env, arguments[5]);
  const size_t before = words * sizeof(uint32_t);
  int32_t result = static_cast<size_t>(at) + words <= stride && static_cast<size_t>(count) * stride <= all ? 0 : -EFAULT;
  for (uint32_t i = 0; i < count && result == 0; i++, row += stride) {
    if (i + kFarAhead < count) {
      size_t next = row[kFarAhead * stride];
      if (next >= before && next + kLine < size) {
        __builtin_prefetch(source + next - before);
        __builtin_prefetch(source + next);
        __builtin_prefetch(source + next + kLine - 1);
      }
    }
    size_t offset = row[0];
    if (offset < before || offset > size) {
      result = -EFAULT;
    } else {
      memcpy(row + at, source + offset - before, before);
    }
  }
  napi_value answer = nullptr;
  napi_create_int32(env, result, &answer);
  return answer;
}

// Copies that are not worth a call.
inline void copyShort(uint8_t* target, const uint8_t* source, size_t length) {
  if (length > kLine) {
    memcpy(target, source, length);
  } else if (length >= 32) {
    uint8_t first[32], last[32];
    memcpy(first, source, 32);
    memcpy(last, source + length - 32, 32);
    memcpy(target, first, 32);
    memcpy(target + length - 32, last, 32);
  } else {
    for (size_t i = 0; i < length; i++) target[i] = source[i];
  }
}

// gatherRows(target, at, limit, source, rows, layout, first, count, done): see native.ts.
napi_value callGatherRows(napi_env env, napi_callback_info info) {
  size_t given = 9;
  napi_value arguments[9];
  napi_get_cb_info(env, info, &given, arguments, nullptr, nullptr);
  auto [target, room] = elementsOf<uint8_t>(env, arguments[0]);
  auto [source, size] = elementsOf<const uint8_t>(env, arguments[3]);
  auto [rows, all] = elementsOf<const uint32_t>(env, arguments[4]);
  auto [layout, layoutWords] = elementsOf<const uint32_t>(env, arguments[5]);
  auto [done, doneWords] = elementsOf<uint32_t>(env, arguments[8]);
  uint32_t at = numberOf(env, arguments[1]), limit = numberOf(env, arguments[2]);
  uint32_t first = numberOf(env, arguments[6]), count = numberOf(env, arguments[7]);
  int32_t result = layoutWords >= 4 && doneWords >= 2 && limit <= room ? 0 : -EFAULT;
  uint32_t index = first;
  size_t end = at;
  if (result == 0) {
    const size_t stride = layout[0], head = layout[1], headBytes = layout[2] * sizeof(uint32_t), place = layout[3];
    if (head + layout[2] > stride || place >= stride || count * stride > all) result = -EFAULT;
    const uint32_t* row = rows + first * stride;
    for (; index < count && result == 0; index++, row += stride) {
      const size_t from = row[0], length = row[place];
      const size_t ahead = length > kShort ? kAhead : kFarAhead;
      if (index + ahead < count) {
        const uint32_t* next = row + ahead * stride;
        fetchAhead(source, size, next[0], next[place]);
      }
      if (from + length > size) {
        result = -EFAULT;
      } else if (end + headBytes + length > limit) {
        break;
      } else {
        for (size_t word = 0; word < layout[2]; word++) memcpy(target + end + 4 * word, row + head + word, 4);
        copyShort(target + end + headBytes, source + from, length);
        end += headBytes + length;
      }
    }
    done[0] = index - first;
    done[1] = static_cast<uint32_t>(end);
  }
  napi_value answer = nullptr;
  napi_create_int32(env, result, &answer);
  return answer;
}

// A call that reads its arguments by itself.
void exportPlain(Napi::Env env, Napi::Object exports, const char* name, napi_callback call) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, call, nullptr, &function);
  exports.Set(name, Napi::Value(env, function));
}

}  // namespace

void exportMemory(Napi::Env env, Napi::Object exports) {
  exports.Set("mmap", Napi::Function::New(env, callMmap, "mmap"));
  exports.Set("mmapAnonymous", Napi::Function::New(env, callMmapAnonymous, "mmapAnonymous"));
  exports.Set("munmap", Napi::Function::New(env, callMunmap, "munmap"));
  exports.Set("memfd", Napi::Function::New(env, callMemfd, "memfd"));
  exports.Set("ftruncate", Napi::Function::New(env, callFtruncate, "ftruncate"));
  exportPlain(env, exports, "gather", callGather);
  exportPlain(env, exports, "gatherBefore", callGatherBefore);
  exportPlain(env, exports, "gatherRows", callGatherRows);
  exports.Set("pageSize", Napi::Number::New(env, static_cast<double>(sysconf(_SC_PAGESIZE))));
}

}  // namespace xdp
