"""What a run of the demo came to: its phases, and whether the stock is what it must be."""

from collections.abc import Mapping
from typing import Any

import attrs

from trioqueue.cli.demo_orders import expected_stock
from trioqueue.cli.demo_runs import Orders, Row, drift, total_of


@attrs.frozen
class Result:
    """What was done, and what was found.

    Attributes:
        orders: Those of each phase.
        rows: One a phase.
        found: Pieces that are left of each product.
    """

    orders: Orders
    rows: list[Row]
    found: Mapping[str, int]

    @property
    def expected(self) -> Mapping[str, int]:
        """Pieces that must be left of each product."""
        return expected_stock(self.orders)

    @property
    def ordered(self) -> int:
        """Pieces of all orders."""
        return sum(order.pieces for phase in self.orders for order in phase)

    @property
    def drift(self) -> int:
        """Pieces by which the stock is wrong."""
        return drift(self.expected, self.found)

    def document(self) -> dict[str, Any]:
        """Gives all of it to a program."""
        return {
            "phases": [{"name": row.name, **_figures(row)} for row in self.rows],
            "total": _figures(total_of(self.rows)),
            "products": [
                {
                    "product": product,
                    "expected": expected,
                    "found": self.found[product],
                    "drift": abs(self.found[product] - expected),
                }
                for product, expected in self.expected.items()
            ],
            "ordered": self.ordered,
            "expected": sum(self.expected.values()),
            "found": sum(self.found.values()),
            "drift": self.drift,
            "well": not self.drift,
        }


def _figures(row: Row) -> dict[str, float]:
    return {
        "orders": row.orders,
        "seconds": row.seconds,
        "orders_per_second": row.rate,
        "workers_created": row.created,
        "workers_passivated": row.passivated,
    }
