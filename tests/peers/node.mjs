// A server of Node's own HTTP/1.1 and HTTP/2: node node.mjs ADDRESS:PORT ADDRESS:PORT
import http from "node:http";
import http2 from "node:http2";

const [one, two] = process.argv.slice(2).map((argument) => argument.split(":"));
const waiting = [];

function pieces(response, count) {
  for (let number = 1; number <= count; number++) response.write(`piece ${number}\n`);
}

function answer(request, response) {
  const path = request.url.split("?")[0].replace(/^\/(one|two)/, "");
  const old = request.httpVersion === "1.1";
  switch (path) {
    case "/length":
      response.setHeader("content-length", 5);
      return response.end("whole");
    case "/chunked":
      pieces(response, 3);
      return response.end();
    case "/close":
      if (old) {
        response.useChunkedEncodingByDefault = false;
        response.setHeader("connection", "close");
        response.removeHeader("transfer-encoding");
      }
      pieces(response, 3);
      return response.end();
    case "/hints":
      response.writeEarlyHints({ link: ["</style.css>; rel=preload", "</app.js>; rel=preload"] });
      return response.end("after the hints");
    case "/trailers":
      request.resume();
      return request.on("end", () => {
        response.writeHead(200, old ? { trailer: "x-sum, x-heard" } : {});
        response.write("before the trailers");
        response.addTrailers({ "x-sum": "19", "x-heard": request.trailers["x-said"] ?? "nothing" });
        response.end();
      });
    case "/echo":
      response.setHeader("x-framing", request.headers["transfer-encoding"] ?? request.headers["content-length"] ?? "none");
      return request.pipe(response);
    case "/events":
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: first\n\n");
      return waiting.push(response);
    case "/next":
      for (const stream of waiting.splice(0)) stream.end("data: second\n\n");
      return response.end();
    case "/early":
      response.writeHead(413);
      return response.end("too much");
    default:
      response.writeHead(404);
      return response.end();
  }
}

http.createServer(answer).listen(Number(one[1]), one[0]);
http2.createServer(answer).listen(Number(two[1]), two[0]);
