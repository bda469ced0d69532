// The sums of BatchNorm over all but the last axis, for each of some equal groups of the rows, in
// one pass over memory.

#include "vectors.h"

namespace {

constexpr int64_t kChunks = 64;  // that are summed for themselves, whatever the number of threads

// An array [groups * rows, channels], each group cut into chunks of rows.
struct Table {
  int64_t groups, rows, channels;

  // The results are [groups, channels].
  Table(ffi::AnyBuffer x, ffi::AnyBuffer out)
      : groups(out.dimensions().front()), rows(1), channels(x.dimensions().back()) {
    for (int64_t size : x.dimensions()) rows *= size;
    rows = groups * channels ? rows / (groups * channels) : 0;
  }
  int64_t chunks() const { return std::clamp<int64_t>(rows * channels / 8192, 1, kChunks); }
  // The first row of a chunk, counted over all groups; a group's chunks are side by side.
  int64_t begin(int64_t group, int64_t chunk) const {
    return group * rows + chunk * rows / chunks();
  }

  // Calls run(chunk of all, its first row, the row after its last, its group), side by side.
  template <typename F>
  void ForEachChunk(ffi::ThreadPool& pool, F run) const {
    const int64_t own = chunks();
    ParallelFor(pool, groups * own, [&](int64_t chunk) {
      const int64_t group = chunk / own;
      run(chunk, begin(group, chunk % own), begin(group, chunk % own + 1), group);
    });
  }
};

// Sums of a(row) and b(row) over some rows, for one block of channels.
template <typename T, int width, typename F>
inline void Sum(int64_t begin, int64_t end, T* first, T* second, F terms) {
  constexpr int lanes = width > kWidth<T> ? kWidth<T> : width, vectors = width / lanes;
  using V = Vector<T, lanes>;
  V a[vectors] = {}, b[vectors] = {};
  for (int64_t row = begin; row < end; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) terms(row, v * lanes, a[v], b[v]);
  }
  for (int v = 0; v < vectors; ++v) {
    *reinterpret_cast<V*>(first + v * lanes) = a[v];
    *reinterpret_cast<V*>(second + v * lanes) = b[v];
  }
}

// Mean and biased variance. Within a chunk, which stays in the cache, the squares are of
// differences from the chunk's own mean; chunks are put together by the formula of Chan, Golub and
// LeVeque 1979.
template <typename T>
void Moments(ffi::ThreadPool& pool, Table table, const T* x, T* mean_of, T* variance_of) {
  const int64_t channels = table.channels, chunks = table.chunks();
  std::vector<T> partial(2 * table.groups * chunks * channels);
  table.ForEachChunk(pool, [&](int64_t chunk, int64_t begin, int64_t end, int64_t) {
    T* means = partial.data() + 2 * chunk * channels;
    T* squares = means + channels;
    ForEachBlock<T>(channels, [&](auto width, int64_t c) {
      constexpr int lanes = width.value > kWidth<T> ? kWidth<T> : width.value;
      using V = Vector<T, lanes>;
      auto at = [&](const T* base, int64_t i) { return *reinterpret_cast<const V*>(base + c + i); };
      Sum<T, width.value>(begin, end, means + c, squares + c, [&](int64_t row, int i, V& a, V&) {
        a += at(x + row * channels, i);
      });
      for (int i = 0; i < width.value; ++i) means[c + i] /= end - begin;
      T ignored[width.value];
      Sum<T, width.value>(begin, end, squares + c, ignored, [&](int64_t row, int i, V& a, V&) {
        const V difference = at(x + row * channels, i) - at(means, i);
        a += difference * difference;
      });
    });
  });
  for (int64_t group = 0; group < table.groups; ++group) {
    const T* const means = partial.data() + 2 * group * chunks * channels;
    for (int64_t c = 0; c < channels; ++c) {
      T mean = 0, squares = 0, count = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const T own = table.begin(0, chunk + 1) - table.begin(0, chunk);
        const T difference = means[2 * chunk * channels + c] - mean;
        count += own;
        mean += difference * own / count;
        squares += means[(2 * chunk + 1) * channels + c];
        squares += difference * difference * own * (count - own) / count;
      }
      mean_of[group * channels + c] = mean;
      variance_of[group * channels + c] = squares / count;
    }
  }
}

// Sums of y and of y * (x - mean) * scale.
template <typename T>
void Contract(ffi::ThreadPool& pool, Table table, const T* y, const T* x, const T* mean,
              const T* scale, T* along, T* across) {
  const int64_t channels = table.channels, chunks = table.chunks();
  std::vector<T> partial(2 * table.groups * chunks * channels);
  table.ForEachChunk(pool, [&](int64_t chunk, int64_t begin, int64_t end, int64_t group) {
    T* sums = partial.data() + 2 * chunk * channels;
    const T* own_mean = mean + group * channels;
    ForEachBlock<T>(channels, [&](auto width, int64_t c) {
      constexpr int lanes = width.value > kWidth<T> ? kWidth<T> : width.value;
      using V = Vector<T, lanes>;
      auto at = [&](const T* base, int64_t i) { return *reinterpret_cast<const V*>(base + c + i); };
      Sum<T, width.value>(begin, end, sums + c, sums + channels + c,
                          [&](int64_t row, int i, V& a, V& b) {
                            const V gradient = at(y + row * channels, i);
                            a += gradient;
                            b += gradient * (at(x + row * channels, i) - at(own_mean, i));
                          });
    });
  });
  for (int64_t group = 0; group < table.groups; ++group) {
    const T* const sums = partial.data() + 2 * group * chunks * channels;
    for (int64_t c = 0; c < channels; ++c) {
      T a = 0, b = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        a += sums[2 * chunk * channels + c];
        b += sums[(2 * chunk + 1) * channels + c];
      }
      along[group * channels + c] = a;
      across[group * channels + c] = b * scale[group * channels + c];
    }
  }
}

ffi::Error MomentsCall(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> mean,
                       ffi::Result<ffi::AnyBuffer> variance) {
  return Dispatch(x.element_type(), [&](auto zero) {
    using T = decltype(zero);
    Moments<T>(pool, Table(x, *mean), x.typed_data<T>(), mean->typed_data<T>(),
               variance->typed_data<T>());
  });
}

ffi::Error ContractCall(ffi::ThreadPool pool, ffi::AnyBuffer y, ffi::AnyBuffer x,
                        ffi::AnyBuffer mean, ffi::AnyBuffer scale,
                        ffi::Result<ffi::AnyBuffer> along, ffi::Result<ffi::AnyBuffer> across) {
  return Dispatch(y.element_type(), [&](auto zero) {
    using T = decltype(zero);
    Contract<T>(pool, Table(y, *along), y.typed_data<T>(), x.typed_data<T>(), mean.typed_data<T>(),
                scale.typed_data<T>(), along->typed_data<T>(), across->typed_data<T>());
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(resjax_norm_moments, MomentsCall,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(resjax_norm_contract, ContractCall,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
