"""Refunds: money goes back the way it came."""


def refund(payment, amount=None):
    """Pay it back, by default all that is left; ValueError for more."""
    amount = amount or payment.amount
    if amount > payment.amount - payment.refunded:
        raise ValueError("more than is left")
    payment.refunded += amount
    payment.provider.refund(payment.id, amount)
