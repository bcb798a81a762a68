// runner detect FOLDER THREADS FILE HEIGHT WIDTH [FILE HEIGHT WIDTH]...
//     Finds faces with the model in FOLDER, which has a model.txt. A FILE holds HEIGHT x WIDTH x 3 bytes, BGR. Prints
//     what `facedeploy detect --json` prints, a line for each file.
// runner measure
//     Reads what to measure from standard input (request.hpp), and answers in JSON (measuring.hpp).
// Exit status 2: the call, a file or the model is wrong. 1: whoever asked is gone.

#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "detect.hpp"
#include "measuring.hpp"

int main(int count, char** given) {
    std::set_new_handler([] {
        std::fputs("runner: there is not enough memory\n", stderr);
        std::_Exit(2);
    });
    const std::vector<std::string> words(given + (count > 0 ? 1 : 0), given + count);
    if (words.size() == 1 && words[0] == "measure") return runner::measure();
    if (words.size() >= 6 && words.size() % 3 == 0 && words[0] == "detect") {
        return runner::detect({words.begin() + 1, words.end()});
    }
    return runner::refuse("usage: runner detect FOLDER THREADS FILE HEIGHT WIDTH... | runner measure");
}
