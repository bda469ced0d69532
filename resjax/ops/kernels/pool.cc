// Maxima of windows of 3x3 at stride 2 on images [N, H, W, C] that are padded by 1, and which of the
// nine pixels of a window they are, by rows: the first one that is not smaller than any other, or
// that is not a number.

#include "vectors.h"

namespace {

struct Pooling {
  int64_t images, height, width, channels, rows, columns;

  Pooling(ffi::AnyBuffer x, ffi::AnyBuffer y)
      : images(x.dimensions()[0]), height(x.dimensions()[1]), width(x.dimensions()[2]),
        channels(x.dimensions()[3]), rows(y.dimensions()[1]), columns(y.dimensions()[2]) {}

  // Calls run(window, pixel, position) for the pixels of the windows of a row of an image; a pixel
  // and a window are offsets of their first channel.
  template <typename F>
  void ForEachPixel(int64_t line, F run) const {
    const int64_t image = line / rows, row = line % rows;
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t window = (line * columns + column) * channels;
      for (int64_t a = 0; a < 3; ++a) {
        for (int64_t b = 0; b < 3; ++b) {
          const int64_t h = 2 * row + a - 1, w = 2 * column + b - 1;
          if (h < 0 || h >= height || w < 0 || w >= width) continue;
          run(window, ((image * height + h) * width + w) * channels, 3 * a + b);
        }
      }
    }
  }
};

template <typename T>
void Maxima(ffi::ThreadPool& pool, const Pooling& p, const T* x, T* y, int8_t* positions) {
  ParallelFor(pool, p.images * p.rows, [&](int64_t line) {
    int64_t begun = -1;
    p.ForEachPixel(line, [&](int64_t window, int64_t pixel, int64_t position) {
      T* const largest = y + window;
      int8_t* const at = positions + window;
      if (begun != window) {
        std::copy_n(x + pixel, p.channels, largest);
        std::fill_n(at, p.channels, static_cast<int8_t>(position));
        begun = window;
        return;
      }
#pragma GCC ivdep
      for (int64_t c = 0; c < p.channels; ++c) {
        const T other = x[pixel + c], now = largest[c];
        const bool better = other > now || (other != other && now == now);
        largest[c] = better ? other : now;
        at[c] = better ? static_cast<int8_t>(position) : at[c];
      }
    });
  });
}

// The pixels of x at the positions.
template <typename T>
void Picked(ffi::ThreadPool& pool, const Pooling& p, const T* x, const int8_t* positions, T* y) {
  ParallelFor(pool, p.images * p.rows, [&](int64_t line) {
    p.ForEachPixel(line, [&](int64_t window, int64_t pixel, int64_t position) {
#pragma GCC ivdep
      for (int64_t c = 0; c < p.channels; ++c) {
        if (positions[window + c] == position) y[window + c] = x[pixel + c];
      }
    });
  });
}

// Its transpose: y added to where its windows have their maxima; windows of two rows overlap.
template <typename T>
void Placed(ffi::ThreadPool& pool, const Pooling& p, const T* y, const int8_t* positions, T* x) {
  ParallelFor(pool, p.images, [&](int64_t image) {
    std::fill_n(x + image * p.height * p.width * p.channels, p.height * p.width * p.channels, T(0));
    for (int64_t line = image * p.rows; line < (image + 1) * p.rows; ++line) {
      p.ForEachPixel(line, [&](int64_t window, int64_t pixel, int64_t position) {
#pragma GCC ivdep
        for (int64_t c = 0; c < p.channels; ++c) {
          x[pixel + c] += positions[window + c] == position ? y[window + c] : T(0);
        }
      });
    }
  });
}

ffi::Error MaximaCall(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y,
                      ffi::Result<ffi::AnyBuffer> positions) {
  return Dispatch(x.element_type(), [&](auto zero) {
    using T = decltype(zero);
    Maxima<T>(pool, Pooling(x, *y), x.typed_data<T>(), y->typed_data<T>(),
              positions->typed_data<int8_t>());
  });
}

ffi::Error PickedCall(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer positions,
                      ffi::Result<ffi::AnyBuffer> y) {
  return Dispatch(x.element_type(), [&](auto zero) {
    using T = decltype(zero);
    Picked<T>(pool, Pooling(x, *y), x.typed_data<T>(), positions.typed_data<int8_t>(),
              y->typed_data<T>());
  });
}

ffi::Error PlacedCall(ffi::ThreadPool pool, ffi::AnyBuffer y, ffi::AnyBuffer positions,
                      ffi::Result<ffi::AnyBuffer> x) {
  return Dispatch(y.element_type(), [&](auto zero) {
    using T = decltype(zero);
    Placed<T>(pool, Pooling(*x, y), y.typed_data<T>(), positions.typed_data<int8_t>(),
              x->typed_data<T>());
  });
}

auto LinearBinding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<ffi::AnyBuffer>()
      .Arg<ffi::AnyBuffer>()
      .Ret<ffi::AnyBuffer>();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(resjax_pool_maxima, MaximaCall,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(resjax_pool_picked, PickedCall, LinearBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(resjax_pool_placed, PlacedCall, LinearBinding());
