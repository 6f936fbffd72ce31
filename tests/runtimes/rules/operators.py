def cases(form):
    return []
