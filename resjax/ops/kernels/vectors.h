// What the kernels share: vectors of the CPU, blocks of channels, and the threads of XLA.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kPixels = 12;  // 32 registers
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kPixels = 6;  // 16 registers
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kPixels = 12;
#else
constexpr int kVectorBytes = 16, kPixels = 6;
#endif

constexpr int64_t kTasks = 16;  // enough to keep the threads busy

// In memory a vector lies wherever its numbers do. clang heeds that of a type in a struct alone.
template <typename T, int width>
struct VectorOf {
  typedef T Type __attribute__((vector_size(width * sizeof(T)), aligned(sizeof(T)), may_alias));
};

template <typename T, int width>
using Vector = typename VectorOf<T, width>::Type;

template <typename T>
constexpr int kWidth = kVectorBytes / sizeof(T);

// ------------------------------------------------------------------------------------- parallelism

// Runs task(0) ... task(count - 1) on the threads of XLA and on this one.
void ParallelFor(ffi::ThreadPool& pool, int64_t count, std::function<void(int64_t)> task) {
  struct Shared {
    std::function<void(int64_t)> task;
    int64_t count;
    std::atomic<int64_t> next{0}, done{0};
    void Work() {
      for (int64_t i; (i = next.fetch_add(1)) < count;) {
        task(i);
        done.fetch_add(1, std::memory_order_release);
      }
    }
  };
  auto shared = std::make_shared<Shared>();
  shared->task = std::move(task);
  shared->count = count;
  const int64_t helpers = std::min(pool.num_threads(), count) - 1;
  // A helper that starts late finds nothing to do; nobody waits for it.
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([shared] { shared->Work(); });
  shared->Work();
  for (int spins = 0; shared->done.load(std::memory_order_acquire) < count; ++spins) {
    if (spins > 1000) std::this_thread::yield();
  }
}

// ------------------------------------------------------------------------------ blocks of channels

template <int value>
using Constant = std::integral_constant<int, value>;

// Calls run(width) for the widths of a block of channels: two vectors, one, and ever less.
template <typename T, typename F>
void ForEachWidth(F run) {
  constexpr int w = kWidth<T>;
  run(Constant<2 * w>()), run(Constant<w>());
  if constexpr (w > 4) run(Constant<w / 2>());
  if constexpr (w > 2) run(Constant<w / 4>());
  run(Constant<1>());
}

// Calls run(width, first) for blocks that together are `channels`.
template <typename T, typename F>
void ForEachBlock(int64_t channels, F run) {
  int64_t first = 0;
  ForEachWidth<T>([&](auto width) {
    for (; channels - first >= width.value; first += width.value) run(width, first);
  });
}

// Calls run with one of the widths as a constant.
template <typename T, typename F>
void WithWidth(int64_t width, F run) {
  ForEachWidth<T>([&](auto candidate) {
    if (candidate.value == width) run(candidate);
  });
}

template <typename Run>
ffi::Error Dispatch(ffi::DataType type, Run run) {
  if (type == ffi::DataType::F32) return run(float()), ffi::Error::Success();
#ifdef RESJAX_WIDE
  if (type == ffi::DataType::F64) return run(double()), ffi::Error::Success();
#endif
  return ffi::Error::InvalidArgument("neither float32 nor, where it is built, float64");
}

}  // namespace
