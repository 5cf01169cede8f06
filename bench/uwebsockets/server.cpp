// uWebSockets in C++, with its native topics. Speaks as the other servers do, see ../README.md.

#include <App.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include <cstdlib>
#include <ctime>
#include <iostream>
#include <string>
#include <string_view>
#include <thread>

using Text = std::string;
using View = std::string_view;

struct Connection {
    Text user;
};

static const View AT = "2026-01-01T00:00:00.000Z";

// ── tokens: HS256, user_id, exp ──────────────────────────────────────────────────────────────────────────────────────

static Text base64url(View text) {
    Text bytes;
    uint32_t bits = 0;
    int held = 0;
    for (char sign : text) {
        int value = sign >= 'A' && sign <= 'Z' ? sign - 'A'
                  : sign >= 'a' && sign <= 'z' ? sign - 'a' + 26
                  : sign >= '0' && sign <= '9' ? sign - '0' + 52
                  : sign == '-' ? 62 : 63;
        bits = bits << 6 | value;
        if ((held += 6) >= 8) bytes.push_back(bits >> (held -= 8));
    }
    return bytes;
}

static long number_after(View json, View key) {
    size_t at = json.find(key);
    return at == View::npos ? 0 : std::strtol(json.data() + at + key.size(), nullptr, 10);
}

static Text text_after(View json, View key) {
    size_t at = json.find(key);
    if (at == View::npos) return {};
    at += key.size();
    return Text(json.substr(at, json.find('"', at) - at));
}

/** Empty for a token that is not good. */
static Text user_of(View token, const Text &secret) {
    size_t second = token.rfind('.'), first = token.find('.');
    if (second == View::npos || first == second) return {};
    if (text_after(base64url(token.substr(0, first)), "\"alg\":\"") != "HS256") return {};
    unsigned char expected[32];
    unsigned int length = sizeof expected;
    HMAC(EVP_sha256(), secret.data(), secret.size(), (const unsigned char *) token.data(), second, expected, &length);
    Text signature = base64url(token.substr(second + 1));
    if (signature.size() != length || CRYPTO_memcmp(signature.data(), expected, length)) return {};
    Text claims = base64url(token.substr(first + 1, second - first - 1));
    return number_after(claims, "\"exp\":") > std::time(nullptr) ? text_after(claims, "\"user_id\":\"") : Text();
}

// ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

static Text message(long topic, long n, const Text &filler) {
    Text data = "\"data\":{\"n\":" + std::to_string(n) + ",\"filler\":\"" + filler + "\"},\"timestamp\":\"" + Text(AT) + "\"";
    if (topic == 0) return "{\"type\":\"bench\"," + data + ",\"priority\":\"immediate\"}";
    return "{\"type\":\"bill_update\",\"bill_id\":" + std::to_string(topic) + ",\"update\":{\"type\":\"status_change\"," + data
         + "},\"timestamp\":\"" + Text(AT) + "\"}";
}

static Text name_of(long topic) {
    return "bill:" + std::to_string(topic);
}

template <typename Socket> static void answer(Socket *socket, View request) {
    if (request.find("\"ping\"") != View::npos) {
        socket->send("{\"type\":\"pong\",\"priority\":\"immediate\"}", uWS::TEXT);
    } else if (size_t at = request.find("\"bill_ids\":["); at != View::npos) {
        View ids = request.substr(at + 11, request.find(']', at) - at - 10);
        for (const char *next = ids.data() + 1; *next != ']';) {
            char *end;
            socket->subscribe(name_of(std::strtol(next, &end, 10)));
            if (end == next) break;
            for (next = end; *next == ',' || *next == ' ';) ++next;
        }
        socket->send("{\"type\":\"batch_subscribed\",\"data\":{\"subscribed\":" + Text(ids) + ",\"failed\":[]}}", uWS::TEXT);
    } else if (long bill = number_after(request, "\"bill_id\":")) {
        socket->subscribe(name_of(bill));
        Text id = std::to_string(bill);
        socket->send("{\"type\":\"subscribed\",\"data\":{\"bill_id\":" + id + ",\"message\":\"Subscribed to bill " + id + " updates\"}}", uWS::TEXT);
    }
}

int main() {
    static Text filler;
    const Text secret = std::getenv("BENCH_SECRET");
    const bool compression = View(std::getenv("BENCH_COMPRESSION")) == "on";
    long connections = 0;
    uWS::App app;
    app.ws<Connection>("/ws", {
        .compression = compression ? uWS::SHARED_COMPRESSOR : uWS::DISABLED,
        .upgrade = [&](auto *response, auto *request, auto *context) {
            Text user = user_of(request->getQuery("token"), secret);
            if (user.empty()) {
                response->writeStatus("401 Unauthorized")->end("Unauthorized", true);
                return;
            }
            response->template upgrade<Connection>({user}, request->getHeader("sec-websocket-key"),
                request->getHeader("sec-websocket-protocol"), request->getHeader("sec-websocket-extensions"), context);
        },
        .open = [&](auto *socket) {
            ++connections;
            socket->subscribe("all");
            const Text &user = socket->getUserData()->user;
            socket->send("{\"type\":\"connected\",\"message\":\"WebSocket connection established\",\"data\":{\"user_id\":\"" + user
                + "\",\"connectionId\":\"" + user + "-0\"}}", uWS::TEXT);
        },
        .message = [](auto *socket, View text, uWS::OpCode) { answer(socket, text); },
        .close = [&](auto *, int, View) { --connections; },
    });
    app.listen("127.0.0.1", 0, [](auto *socket) {
        std::cout << "{\"port\":" << us_socket_local_port(0, (us_socket_t *) socket) << ",\"runtime\":\"C++\"}" << std::endl;
    });
    uWS::Loop *loop = uWS::Loop::get();
    std::thread([&] {
        for (Text line; std::getline(std::cin, line);) loop->defer([&, line] {
            Text order = text_after(line, "\"do\":\"");
            if (order == "filler") filler = text_after(line, "\"text\":\"");
            if (order == "usage") std::cout << "{\"connections\":" << connections << "}" << std::endl;
            if (order != "publish") return;
            long topic = number_after(line, "\"topic\":"), n = number_after(line, "\"n\":"), count = number_after(line, "\"count\":");
            for (long end = n + count; n < end; ++n) {
                Text text = message(topic, n, filler);
                app.publish(topic == 0 ? "all" : name_of(topic), text, uWS::TEXT, compression && text.size() >= 1024);
            }
        });
        std::_Exit(0);
    }).detach();
    app.run();
}
