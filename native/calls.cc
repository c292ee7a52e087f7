// Plain system calls: sockets, bpf(2), ioctl, namespaces, mounts, scheduling, limits.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include <string>

#include "addon.h"

namespace xdp {
namespace {

using Info = Napi::CallbackInfo;

Napi::Value answer(const Info& info, int64_t result) {
  return Napi::Number::New(info.Env(), static_cast<double>(result < 0 ? -errno : result));
}

// For a call whose value is a new descriptor.
Napi::Value answerDescriptor(const Info& info, int64_t result) {
  if (result >= 0) closeWithThread(info.Env(), static_cast<int>(result));
  return answer(info, result);
}

int32_t intAt(const Info& info, size_t index) { return info[index].As<Napi::Number>().Int32Value(); }
double doubleAt(const Info& info, size_t index) { return info[index].As<Napi::Number>().DoubleValue(); }
std::string stringAt(const Info& info, size_t index) { return info[index].As<Napi::String>().Utf8Value(); }

// Writes the addresses of buffers into a kernel structure: `pointers` is a flat array
// [offset, view, offset, view, ...]. Each address takes 8 bytes (4 on 32-bit machines the rest stays zero).
// A null view writes a null pointer. False when an offset does not fit in the structure.
bool placePointers(const Bytes& structure, const Napi::Value& pointers) {
  if (!pointers.IsArray()) return true;
  Napi::Array list = pointers.As<Napi::Array>();
  for (uint32_t i = 0; i + 1 < list.Length(); i += 2) {
    double offset = Napi::Value(list[i]).As<Napi::Number>().DoubleValue();
    if (!(offset >= 0) || offset + sizeof(uint64_t) > static_cast<double>(structure.length)) return false;
    uint64_t address = reinterpret_cast<uintptr_t>(bytesOf(list[i + 1]).data);
    memcpy(structure.data + static_cast<size_t>(offset), &address, sizeof address);
  }
  return true;
}

Napi::Value badArgument(const Info& info) { return Napi::Number::New(info.Env(), -EINVAL); }

// writePointers(structure, pointers): for structures that another structure points to. The buffers must stay
// referenced in JavaScript until the kernel has used the addresses.
Napi::Value callWritePointers(const Info& info) {
  if (!placePointers(bytesOf(info[0]), info[1])) return badArgument(info);
  return Napi::Number::New(info.Env(), 0);
}

// socket(domain, type, protocol)
Napi::Value callSocket(const Info& info) {
  return answerDescriptor(info, socket(intAt(info, 0), intAt(info, 1) | SOCK_CLOEXEC, intAt(info, 2)));
}

// close(fd)
Napi::Value callClose(const Info& info) { return answer(info, closeNow(intAt(info, 0))); }

// dup(fd): the copy is close-on-exec
Napi::Value callDup(const Info& info) { return answerDescriptor(info, fcntl(intAt(info, 0), F_DUPFD_CLOEXEC, 3)); }

// bind(fd, address)
Napi::Value callBind(const Info& info) {
  Bytes address = bytesOf(info[1]);
  return answer(info, bind(intAt(info, 0), reinterpret_cast<sockaddr*>(address.data),
                           static_cast<socklen_t>(address.length)));
}

// getsockname(fd, address): the length of the address
Napi::Value callGetsockname(const Info& info) {
  Bytes address = bytesOf(info[1]);
  socklen_t length = static_cast<socklen_t>(address.length);
  int result = getsockname(intAt(info, 0), reinterpret_cast<sockaddr*>(address.data), &length);
  return answer(info, result < 0 ? result : static_cast<int>(length));
}

// setsockopt(fd, level, name, value, pointers?)
Napi::Value callSetsockopt(const Info& info) {
  Bytes value = bytesOf(info[3]);
  if (!placePointers(value, info[4])) return badArgument(info);
  return answer(info, setsockopt(intAt(info, 0), intAt(info, 1), intAt(info, 2), value.data,
                                 static_cast<socklen_t>(value.length)));
}

// getsockopt(fd, level, name, value): the number of bytes the kernel wrote
Napi::Value callGetsockopt(const Info& info) {
  Bytes value = bytesOf(info[3]);
  socklen_t length = static_cast<socklen_t>(value.length);
  int result = getsockopt(intAt(info, 0), intAt(info, 1), intAt(info, 2), value.data, &length);
  return answer(info, result < 0 ? result : static_cast<int>(length));
}

// send(fd, data or null, flags, address?)
Napi::Value callSend(const Info& info) {
  Bytes data = bytesOf(info[1]);
  Bytes address = bytesOf(info[3]);
  return answer(info, sendto(intAt(info, 0), data.data, data.length, intAt(info, 2),
                             reinterpret_cast<sockaddr*>(address.data), static_cast<socklen_t>(address.length)));
}

// recv(fd, data or null, flags)
Napi::Value callRecv(const Info& info) {
  Bytes data = bytesOf(info[1]);
  return answer(info, recv(intAt(info, 0), data.data, data.length, intAt(info, 2)));
}

// poll(struct pollfd[], timeout in ms): revents are written into the array
Napi::Value callPoll(const Info& info) {
  Bytes list = bytesOf(info[0]);
  return answer(info, poll(reinterpret_cast<pollfd*>(list.data), list.length / sizeof(pollfd), intAt(info, 1)));
}

// Whether the value of a bpf(2) command is a new descriptor. Numbers are those of enum bpf_cmd (include/uapi/linux/bpf.h).
bool opensDescriptor(int command) {
  switch (command) {
    case 0:   // BPF_MAP_CREATE
    case 5:   // BPF_PROG_LOAD
    case 7:   // BPF_OBJ_GET
    case 13:  // BPF_PROG_GET_FD_BY_ID
    case 14:  // BPF_MAP_GET_FD_BY_ID
    case 17:  // BPF_RAW_TRACEPOINT_OPEN
    case 18:  // BPF_BTF_LOAD
    case 19:  // BPF_BTF_GET_FD_BY_ID
    case 28:  // BPF_LINK_CREATE
    case 30:  // BPF_LINK_GET_FD_BY_ID
    case 32:  // BPF_ENABLE_STATS
    case 33:  // BPF_ITER_CREATE
      return true;
    default:
      return false;
  }
}

Napi::Value answerBpf(const Info& info, int64_t result) {
  return opensDescriptor(intAt(info, 0)) ? answerDescriptor(info, result) : answer(info, result);
}

// bpf(command, attr, pointers?, unprofiled?)
Napi::Value callBpf(const Info& info) {
  Bytes attr = bytesOf(info[1]);
  if (!placePointers(attr, info[2])) return badArgument(info);
  if (!info[3].ToBoolean()) return answerBpf(info, syscall(SYS_bpf, intAt(info, 0), attr.data, attr.length));
  // The verifier gives up at any signal, and a profiler sends them by the thousand.
  sigset_t profiler, before;
  sigemptyset(&profiler);
  sigaddset(&profiler, SIGPROF);
  pthread_sigmask(SIG_BLOCK, &profiler, &before);
  long result = syscall(SYS_bpf, intAt(info, 0), attr.data, attr.length);
  int error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return answerBpf(info, result);
}

// ioctl(fd, request, argument, pointers?)
Napi::Value callIoctl(const Info& info) {
  Bytes argument = bytesOf(info[2]);
  if (!placePointers(argument, info[3])) return badArgument(info);
  return answer(info, ioctl(intAt(info, 0), static_cast<unsigned long>(doubleAt(info, 1)), argument.data));
}

// A thread keeps the namespaces of the thread that made it, and libuv makes its pool at first use. So the
// pool is started before this thread ever leaves its namespace; otherwise a later DNS look-up would run
// in the wrong one.
void startThreadPool(Napi::Env env) {
  static uv_once_t once = UV_ONCE_INIT;
  static uv_loop_t* loop;
  napi_get_uv_event_loop(env, &loop);
  uv_once(&once, [] {
    uv_work_t* work = static_cast<uv_work_t*>(calloc(1, sizeof(uv_work_t)));
    uv_queue_work(loop, work, [](uv_work_t*) {}, [](uv_work_t* done, int) { free(done); });
  });
}

// setns(fd, type): for the calling thread
Napi::Value callSetns(const Info& info) {
  startThreadPool(info.Env());
  return answer(info, setns(intAt(info, 0), intAt(info, 1)));
}

// unshare(flags): for the calling thread
Napi::Value callUnshare(const Info& info) {
  startThreadPool(info.Env());
  return answer(info, unshare(intAt(info, 0)));
}

// mount(source, target, type, flags)
Napi::Value callMount(const Info& info) {
  return answer(info, mount(stringAt(info, 0).c_str(), stringAt(info, 1).c_str(), stringAt(info, 2).c_str(),
                            static_cast<unsigned long>(doubleAt(info, 3)), nullptr));
}

// umount(target, flags)
Napi::Value callUmount(const Info& info) {
  return answer(info, umount2(stringAt(info, 0).c_str(), intAt(info, 1)));
}

// setaffinity(mask): for the calling thread; bit n of the mask is processor n
Napi::Value callSetaffinity(const Info& info) {
  Bytes mask = bytesOf(info[0]);
  return answer(info, sched_setaffinity(0, mask.length, reinterpret_cast<cpu_set_t*>(mask.data)));
}

// getaffinity(mask): the number of bytes the kernel wrote
Napi::Value callGetaffinity(const Info& info) {
  Bytes mask = bytesOf(info[0]);
  return answer(info, syscall(SYS_sched_getaffinity, 0, mask.length, mask.data));
}

// gettid(): the kernel's id of the calling thread
Napi::Value callGettid(const Info& info) { return answer(info, syscall(SYS_gettid)); }

// readClocks(BigInt64Array[3]): CLOCK_MONOTONIC, CLOCK_REALTIME and CLOCK_MONOTONIC again, in nanoseconds
Napi::Value callReadClocks(const Info& info) {
  Bytes into = bytesOf(info[0]);
  const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_MONOTONIC};
  if (into.length < sizeof clocks / sizeof *clocks * sizeof(int64_t)) return badArgument(info);
  timespec times[3];
  for (int i = 0; i < 3; i++) clock_gettime(clocks[i], &times[i]);
  for (int i = 0; i < 3; i++) {
    int64_t nanoseconds = static_cast<int64_t>(times[i].tv_sec) * 1000000000 + times[i].tv_nsec;
    memcpy(into.data + i * sizeof nanoseconds, &nanoseconds, sizeof nanoseconds);
  }
  return answer(info, 0);
}

// getrlimit(resource, Float64Array[2]): soft and hard limit; Infinity for none
Napi::Value callGetrlimit(const Info& info) {
  Bytes out = bytesOf(info[1]);
  if (out.length < 2 * sizeof(double)) return badArgument(info);
  rlimit limit;
  int result = getrlimit(static_cast<__rlimit_resource_t>(intAt(info, 0)), &limit);
  if (result == 0) {
    auto wide = [](rlim_t value) {
      return value == RLIM_INFINITY ? std::numeric_limits<double>::infinity() : static_cast<double>(value);
    };
    double values[2] = {wide(limit.rlim_cur), wide(limit.rlim_max)};
    memcpy(out.data, values, sizeof values);
  }
  return answer(info, result);
}

// setrlimit(resource, soft, hard): Infinity for none
Napi::Value callSetrlimit(const Info& info) {
  auto narrow = [](double value) {
    return value == std::numeric_limits<double>::infinity() ? RLIM_INFINITY : static_cast<rlim_t>(value);
  };
  rlimit limit{narrow(doubleAt(info, 1)), narrow(doubleAt(info, 2))};
  return answer(info, setrlimit(static_cast<__rlimit_resource_t>(intAt(info, 0)), &limit));
}

}  // namespace

void exportCalls(Napi::Env env, Napi::Object exports) {
  const struct {
    const char* name;
    Napi::Value (*call)(const Info&);
  } calls[] = {
      {"socket", callSocket},           {"close", callClose},
      {"dup", callDup},                 {"bind", callBind},
      {"getsockname", callGetsockname}, {"setsockopt", callSetsockopt},
      {"getsockopt", callGetsockopt},   {"send", callSend},
      {"recv", callRecv},               {"poll", callPoll},
      {"bpf", callBpf},                 {"ioctl", callIoctl},
      {"setns", callSetns},             {"unshare", callUnshare},
      {"mount", callMount},             {"umount", callUmount},
      {"setaffinity", callSetaffinity}, {"getaffinity", callGetaffinity},
      {"gettid", callGettid},           {"readClocks", callReadClocks},
      {"getrlimit", callGetrlimit},
      {"setrlimit", callSetrlimit},     {"writePointers", callWritePointers},
  };
  for (const auto& entry : calls) exports.Set(entry.name, Napi::Function::New(env, entry.call, entry.name));
}

}  // namespace xdp
