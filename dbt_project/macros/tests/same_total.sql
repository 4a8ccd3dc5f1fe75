{# Two roads to one figure: the totals of each group are equal here and in the other model. A group
   that only one of them has counts as 0 in the other. #}
{% test same_total(
    model, group_by, expression, other_model, other_expression, other_condition='true'
) %}
with both_roads as (
    select
        {{ group_by | join(', ') }},
        {{ expression }} as amount
    from {{ model }}
    union all
    select
        {{ group_by | join(', ') }},
        -({{ other_expression }})
    from {{ other_model }}
    where {{ other_condition }}
)

select
    {{ group_by | join(', ') }},
    {{ sum_money('amount') }} as difference
from both_roads
group by {{ group_by | join(', ') }}
having {{ sum_money('amount') }} <> 0
{% endtest %}
