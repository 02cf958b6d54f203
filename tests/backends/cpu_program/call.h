// A call as ProgramBackend in backend.py writes it: named numbers as text, and named arrays of bytes.
//
//   numbers NAME COUNT VALUE...   members of a struct of rollout.h
//   given NAME BYTES              an array that the kernels read; its bytes follow the end of the line
//   result NAME BYTES             one that they write, with what is in it before; it is sent back
#pragma once

#include <cstdint>
#include <cstdlib>
#include <istream>
#include <map>
#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace ncafast {

class Call {
 public:
  explicit Call(std::istream& in) {
    int64_t count;
    for (std::string kind, name; in >> kind >> name >> count;) {
      if (kind == "numbers")
        read_numbers(in, numbers_[name], count);
      else
        read_bytes(in, arrays_[name], count);
      if (kind == "result") results_.push_back(name);
    }
  }

  // Each can be asked for once.
  std::vector<double> numbers(const std::string& name) {
    const auto found = numbers_.find(name);
    if (found == numbers_.end()) throw std::runtime_error("the call has no " + name);
    const std::vector<double> values = found->second;
    numbers_.erase(found);
    return values;
  }
  double number(const std::string& name) { return numbers(name).at(0); }

  // Null where there is no such array, or an empty one.
  template <class T>
  T* array(const std::string& name) {
    const auto found = arrays_.find(name);
    return found == arrays_.end() || found->second.empty() ? nullptr : reinterpret_cast<T*>(found->second.data());
  }

  // Throws if there are numbers that nobody asked for: a member that this program does not know yet.
  void check_all_read() const {
    if (!numbers_.empty()) throw std::runtime_error("nobody reads " + numbers_.begin()->first);
  }

  // All results, one after the other, in the order of the call.
  void write_results(std::ostream& out) const {
    for (const std::string& name : results_) {
      const std::vector<char>& bytes = arrays_.at(name);
      out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
  }

 private:
  static void read_numbers(std::istream& in, std::vector<double>& to, int64_t count) {
    for (std::string word; count > 0 && in >> word; --count) to.push_back(std::strtod(word.c_str(), nullptr));
  }

  static void read_bytes(std::istream& in, std::vector<char>& to, int64_t bytes) {
    in.ignore();  // the end of the line
    to.resize(static_cast<size_t>(bytes));
    in.read(to.data(), bytes);
  }

  std::map<std::string, std::vector<double>> numbers_;
  std::map<std::string, std::vector<char>> arrays_;
  std::vector<std::string> results_;
};

}  // namespace ncafast
