// The enums of rollout.h, complete: their names, and what kernels ask of them. No switch here or in a kernel has a
// `default`, so that a new value that lacks its case does not compile (-Wswitch). On a GPU the last group of cases
// breaks to the code after the switch: the compiler then makes of it what it would of a `default`.
#pragma once

#include "philox.h"  // NCAFAST_HOST_DEVICE
#include "rollout.h"

namespace ncafast {

// After a switch over an enum. No other number gets here, since bind.h refuses it: no instruction is spent on it, and
// the sanitizers report it.
[[noreturn]] NCAFAST_HOST_DEVICE inline void unreachable() { __builtin_unreachable(); }

// Whether a norm's mean and variance are those of the current batch.
NCAFAST_HOST_DEVICE inline bool has_batch_moments(Norm norm) {
  switch (norm) {
    case Norm::batch:
      return true;
    case Norm::none:
    case Norm::running:
    case Norm::group:
    case Norm::instance:
    case Norm::layer:
      break;
  }
  return false;
}

// Whether they are those of each sample's cells.
NCAFAST_HOST_DEVICE inline bool has_sample_moments(Norm norm) {
  switch (norm) {
    case Norm::group:
    case Norm::instance:
      return true;
    case Norm::none:
    case Norm::batch:
    case Norm::running:
    case Norm::layer:
      break;
  }
  return false;
}

// Whether they are those of each cell's hidden units.
NCAFAST_HOST_DEVICE inline bool has_cell_moments(Norm norm) {
  switch (norm) {
    case Norm::layer:
      return true;
    case Norm::none:
    case Norm::batch:
    case Norm::running:
    case Norm::group:
    case Norm::instance:
      break;
  }
  return false;
}

// Whether a norm's mean and variance are stored beside the parameters.
NCAFAST_HOST_DEVICE inline bool has_stored_moments(Norm norm) {
  switch (norm) {
    case Norm::running:
      return true;
    case Norm::none:
    case Norm::batch:
    case Norm::group:
    case Norm::instance:
    case Norm::layer:
      break;
  }
  return false;
}

// Names, as in ncafast; null for a number that is no value of the enum.
constexpr const char* name_of(Padding padding) {
  switch (padding) {
    case Padding::zeros:
      return "zeros";
    case Padding::reflect:
      return "reflect";
    case Padding::replicate:
      return "replicate";
    case Padding::circular:
      return "circular";
  }
  return nullptr;
}

constexpr const char* name_of(Activation activation) {
  switch (activation) {
    case Activation::relu:
      return "relu";
    case Activation::leaky_relu:
      return "leaky_relu";
    case Activation::elu:
      return "elu";
    case Activation::gelu:
      return "gelu";
    case Activation::silu:
      return "silu";
    case Activation::tanh:
      return "tanh";
    case Activation::identity:
      return "identity";
  }
  return nullptr;
}

constexpr const char* name_of(Norm norm) {
  switch (norm) {
    case Norm::none:
      return "none";
    case Norm::batch:
      return "batch";
    case Norm::running:
      return "running";
    case Norm::group:
      return "group";
    case Norm::instance:
      return "instance";
    case Norm::layer:
      return "layer";
  }
  return nullptr;
}

constexpr const char* name_of(StateType state) {
  switch (state) {
    case StateType::float32:
      return "float32";
    case StateType::float16:
      return "float16";
    case StateType::bfloat16:
      return "bfloat16";
  }
  return nullptr;
}

constexpr const char* name_of(cuda::Precision precision) {
  switch (precision) {
    case cuda::Precision::ieee:
      return "ieee";
    case cuda::Precision::tf32:
      return "tf32";
    case cuda::Precision::tf32x3:
      return "tf32x3";
    case cuda::Precision::bf16:
      return "bf16";
  }
  return nullptr;
}

constexpr const char* name_of(cuda::Way way) {
  switch (way) {
    case cuda::Way::steps:
      return "steps";
    case cuda::Way::cooperative:
      return "cooperative";
    case cuda::Way::on_chip:
      return "cluster";
    case cuda::Way::quickest:
      return "quickest";
  }
  return nullptr;
}

}  // namespace ncafast
