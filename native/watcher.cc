// Readiness of a descriptor on the event loop of the calling thread (uv_poll).
#include <uv.h>

#include "addon.h"

namespace xdp {
namespace {

class Watcher;

// What libuv holds. It outlives the JavaScript object by the one loop turn that uv_close takes.
struct Handle {
  uv_poll_t poll;
  napi_async_cleanup_hook_handle hook;
  Watcher* owner;
};

class Watcher : public Napi::ObjectWrap<Watcher> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Watcher",
                       {InstanceMethod<&Watcher::start>("start"), InstanceMethod<&Watcher::stop>("stop"),
                        InstanceMethod<&Watcher::close>("close"), InstanceMethod<&Watcher::ref>("ref"),
                        InstanceMethod<&Watcher::unref>("unref")});
  }

  // new Watcher(fd, callback(status: -errno or 0, events))
  explicit Watcher(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Watcher>(info) {
    Napi::Env env = info.Env();
    uv_loop_t* loop;
    napi_get_uv_event_loop(env, &loop);
    Handle* handle = new Handle{};
    int status = uv_poll_init(loop, &handle->poll, info[0].As<Napi::Number>().Int32Value());
    if (status < 0) {
      delete handle;
      Napi::Error error = Napi::Error::New(env, uv_strerror(status));
      error.Set("errno", Napi::Number::New(env, -status));
      error.ThrowAsJavaScriptException();
      return;
    }
    handle->poll.data = handle;
    handle->owner = this;
    // The thread may end while we watch (worker.terminate): its loop must not close over a live handle.
    napi_add_async_cleanup_hook(env, &Watcher::onThreadEnd, handle, &handle->hook);
    handle_ = handle;
    callback_ = Napi::Persistent(info[1].As<Napi::Function>());
    context_ = new Napi::AsyncContext(env, "XdpWatcher", info.This().As<Napi::Object>());
  }

  ~Watcher() override {
    release();
    delete context_;
  }

 private:
  Handle* handle_ = nullptr;
  Napi::FunctionReference callback_;
  Napi::AsyncContext* context_ = nullptr;
  bool held_ = false;
  int events_ = 0;

  // A started watcher stays alive until it is stopped, whether or not JavaScript still refers to it.
  void hold(bool wanted) {
    if (wanted == held_) return;
    held_ = wanted;
    if (wanted) {
      Ref();
    } else {
      Unref();
    }
  }

  void release() {
    if (handle_ == nullptr) return;
    Handle* handle = handle_;
    handle_ = nullptr;
    handle->owner = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&handle->poll), &Watcher::onClosed);
  }

  Napi::Value start(const Napi::CallbackInfo& info) {
    if (handle_ == nullptr) return Napi::Number::New(info.Env(), UV_EBADF);
    int status = uv_poll_start(&handle_->poll, info[0].As<Napi::Number>().Int32Value(), &Watcher::onReady);
    if (status == 0) {
      hold(true);
      events_ = info[0].As<Napi::Number>().Int32Value();
    }
    return Napi::Number::New(info.Env(), status);
  }

  Napi::Value stop(const Napi::CallbackInfo& info) {
    if (handle_ != nullptr) uv_poll_stop(&handle_->poll);
    hold(false);
    return Napi::Number::New(info.Env(), 0);
  }

  void close(const Napi::CallbackInfo&) {
    release();
    hold(false);
    // It may refer to whoever refers to us, which would keep both for ever.
    callback_.Reset();
  }

  void ref(const Napi::CallbackInfo&) {
    if (handle_ != nullptr) uv_ref(reinterpret_cast<uv_handle_t*>(&handle_->poll));
  }

  void unref(const Napi::CallbackInfo&) {
    if (handle_ != nullptr) uv_unref(reinterpret_cast<uv_handle_t*>(&handle_->poll));
  }

  static void onReady(uv_poll_t* poll, int status, int events) {
    Watcher* self = static_cast<Handle*>(poll->data)->owner;
    if (self == nullptr) return;
    Napi::Env env = self->Env();
    Napi::HandleScope scope(env);
    napi_value arguments[] = {Napi::Number::New(env, status), Napi::Number::New(env, events)};
    napi_status result =
        napi_make_callback(env, *self->context_, self->Value(), self->callback_.Value(), 2, arguments, nullptr);
    if (result == napi_ok) return;
    // A thread that is being torn down turns its loop once more, when no JavaScript can run: then be still. The
    // callback may have closed us before what it led to ended the thread.
    if (!uv_is_closing(reinterpret_cast<uv_handle_t*>(poll))) uv_poll_stop(poll);
    napi_value exception;
    if (result == napi_pending_exception && napi_get_and_clear_last_exception(env, &exception) == napi_ok) {
      napi_fatal_exception(env, exception);
      // The process lives on when it listens to `uncaughtException`, and then so do we.
      self = static_cast<Handle*>(poll->data)->owner;
      if (self != nullptr && self->held_) uv_poll_start(poll, self->events_, &Watcher::onReady);
    }
  }

  static void onClosed(uv_handle_t* closed) {
    Handle* handle = static_cast<Handle*>(closed->data);
    napi_remove_async_cleanup_hook(handle->hook);
    delete handle;
  }

  static void onThreadEnd(napi_async_cleanup_hook_handle, void* data) {
    Handle* handle = static_cast<Handle*>(data);
    if (handle->owner != nullptr) handle->owner->release();
  }
};

}  // namespace

void exportWatcher(Napi::Env env, Napi::Object exports) { exports.Set("Watcher", Watcher::define(env)); }

}  // namespace xdp
