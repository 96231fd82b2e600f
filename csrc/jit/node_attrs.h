// An op's attributes on their way through the compiled program, as the text of a NodeDef.
//
// The program may be kept on disk and run by another process, so it holds all that a call needs.
#ifndef SPLITOP_JIT_NODE_ATTRS_H_
#define SPLITOP_JIT_NODE_ATTRS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/text_format.h"
#include "tensorflow/core/framework/node_def.pb.h"
#include "tensorflow/core/framework/node_def_util.h"

namespace splitop {

// What the shared readers of attributes take in the place of an OpKernelConstruction.
class NodeAttrs {
 public:
  // The node's own attributes; not those that TensorFlow's passes have added.
  static std::string ToText(const tensorflow::NodeDef& node) {
    tensorflow::NodeDef own;
    own.set_op(node.op());
    for (const auto& [name, value] : node.attr()) {
      if (name[0] != '_') (*own.mutable_attr())[name] = value;
    }
    google::protobuf::TextFormat::Printer printer;
    printer.SetSingleLineMode(true);
    std::string text;
    printer.PrintToString(own, &text);
    return text;
  }

  absl::Status Parse(absl::string_view text) {
    if (google::protobuf::TextFormat::ParseFromString(std::string(text), &node_)) {
      return absl::OkStatus();
    }
    return absl::InternalError(
        absl::StrCat("splitop: a custom call's node is no NodeDef. Received: ", text));
  }

  template <typename T>
  absl::Status GetAttr(absl::string_view name, T* value) const {
    return tensorflow::GetNodeAttr(tensorflow::AttrSlice(&node_.attr()), name, value);
  }

 private:
  tensorflow::NodeDef node_;
};

// A string attribute of MLIR: what is no plain character is written as its two hexadecimal digits.
inline std::string QuoteForMlir(absl::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string quoted = "\"";
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= 0x20 && byte < 0x7F && byte != '"' && byte != '\\') {
      quoted += character;
    } else {
      quoted += {'\\', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return quoted + "\"";
}

}  // namespace splitop

#endif  // SPLITOP_JIT_NODE_ATTRS_H_
