"""The SOAP client of the command line, for people without software of their own: card and documents in, answers out.

    card            a card's folder: who holds it, how it connects and signs, the VIHF of a request
    submission      documents of one patient -> submission set, metadata, signature
    exchange        one message to the server and its answer; what can go wrong on the way
    transactions    ITI-41, ITI-18, ITI-43 with their values
    answers         faults and registry errors -> findings as in every JSON answer
    media           documents -> XDM archive of secure mail, and back
    journal         what the server received and answered

It speaks to any XDS.b server through the network only, as foreign software would; what it shares with the server is
`xds`, `cda`, `security` and the reading of a message piece by piece (`repository.spool`).
"""
