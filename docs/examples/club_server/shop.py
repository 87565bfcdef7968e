"""The club's web shop. It changes what it has loaded in place, and saves it.

A stand-in for a server that exists already, without a login: to be moved, not to be copied.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, abort, jsonify, request
from storage import load, one_at_a_time, save
from werkzeug.exceptions import HTTPException

app = Flask(__name__)


@app.get("/products")
def list_products() -> Any:
    return jsonify(load("products.json", []))


@app.post("/products")
def add_product() -> Any:
    with one_at_a_time("products.json"):
        products = load("products.json", [])
        number = max((product["id"] for product in products), default=0) + 1
        products.append({"id": number, "stock": 10, **members("name", "price")})
        save("products.json", products)
    return products[-1], 201


@app.post("/sale")
def begin_sale() -> Any:
    with one_at_a_time("products.json"):
        products = load("products.json", [])
        for product in products:
            product["price"] = round(product["price"] * 0.9, 2)
        save("products.json", products)
    return jsonify(products)


@app.get("/orders")
def list_orders() -> Any:
    return jsonify(load("orders.json", []))


@app.post("/orders")
def order() -> Any:
    wanted = members("user", "product")
    with one_at_a_time("orders.json"), one_at_a_time("economy.json"):
        products, economy = load("products.json", []), load("economy.json", {})
        product = next((p for p in products if p["id"] == wanted["product"]), None)
        if product is None or wanted["user"] not in economy:
            abort(404, "there is no such product, or no such user")
        user = economy[wanted["user"]]
        if user["wallet"] < product["price"]:
            abort(402, "the wallet has too little in it")
        user["wallet"] = round(user["wallet"] - product["price"], 2)
        user.setdefault("inventory", []).append(product["name"])
        save("economy.json", economy)
        orders = load("orders.json", [])
        number = max((each["id"] for each in orders), default=0) + 1
        orders.append({"id": number, "price": product["price"], **wanted})
        save("orders.json", orders)
    return orders[-1], 201


@app.get("/users/<user>")
def show_user(user: str) -> Any:
    economy = load("economy.json", {})
    if user not in economy:
        abort(404, "there is no such user")
    return jsonify(economy[user])


@app.post("/todos")
def add_todo() -> Any:
    with one_at_a_time("todos.json"):
        data = load("todos.json", {"metadata": {"count": 0}, "todos": {}})
        data["metadata"]["count"] += 1
        number = str(data["metadata"]["count"])
        data["todos"][number] = {**members("text"), "done": False}
        save("todos.json", data)
    return {"number": number}, 201


@app.delete("/todos/<number>")
def finish_todo(number: str) -> Any:
    with one_at_a_time("todos.json"):
        data = load("todos.json", {"metadata": {"count": 0}, "todos": {}})
        if data["todos"].pop(number, None) is None:
            abort(404, "there is no such todo")
        save("todos.json", data)
    return {}


@app.post("/posts")
def add_post() -> Any:
    wanted = members("author", "text")
    with one_at_a_time("db.json"):
        db = load("db.json", {"posts": [], "authors": []})
        if not any(author["name"] == wanted["author"] for author in db["authors"]):
            db["authors"].append({"name": wanted["author"], "posts": 0})
        author = next(a for a in db["authors"] if a["name"] == wanted["author"])
        author["posts"] += 1
        db["posts"].insert(0, {"id": len(db["posts"]) + 1, **wanted})
        save("db.json", db)
    return jsonify(db)


@app.patch("/settings")
def change_settings() -> Any:
    with one_at_a_time("settings.json"):
        settings = load("settings.json", {})
        settings.update(request.get_json())
        settings["shop"]["changes"] = settings["shop"].get("changes", 0) + 1
        save("settings.json", settings)
    return jsonify(settings)


@app.post("/visits")
def count_visit() -> Any:
    with one_at_a_time("counter.json"):
        visits = load("counter.json", 0) + 1
        save("counter.json", visits)
    return {"visits": visits}


@app.errorhandler(HTTPException)
def refuse(error: HTTPException) -> Any:
    return jsonify(error=error.description), error.code or 500


def members(*names: str) -> dict[str, Any]:
    """The members of these names of the request's body."""
    body = request.get_json()
    if not isinstance(body, dict) or any(name not in body for name in names):
        abort(422, f"expected an object with {', '.join(names)}")
    return {name: body[name] for name in names}
